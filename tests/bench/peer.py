"""The peer: transformers' Trainer, as its users have it. One training per process; what it measures goes to standard output
as one line of JSON.

    peer.py steps MODEL TRAIN STEPS [--bf16]     steps of 32 rows of 128 word pieces: the time at the end of each
    peer.py epoch MODEL TASK_FOLDER TASK PADDING one epoch and the dev score, by the recipe of transformers' run_glue.py:
                                                 PADDING is `longest` or `max_length` (its default)
"""

import argparse
import csv
import json
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, matthews_corrcoef
from transformers import (
    AutoModelForSequenceClassification,
    BertTokenizerFast,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

LONGEST = 128
BATCH = 32

# Columns of the texts and of the label; whether the first line names them.
TASKS = {
    "cola": ([3], 1, False),
    "sst": ([0], 1, True),
    "rte": ([1, 2], 3, True),
    "mrpc": ([3, 4], 0, True),
    "sts": ([7, 8], 9, True),
}


class Clock(TrainerCallback):
    """When each step was over."""

    def __init__(self):
        self.times = []

    def on_train_begin(self, *_, **__):
        self.times.append(time.time())

    def on_step_end(self, *_, **__):
        self.times.append(time.time())


def arguments(**given):
    return TrainingArguments(
        output_dir="unused",
        use_cpu=True,
        per_device_train_batch_size=BATCH,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        **given,
    )


def steps(options):
    with open(options.train, encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    tokenizer = BertTokenizerFast.from_pretrained(options.model)
    encoded = tokenizer(texts, padding="max_length", truncation=True, max_length=LONGEST)
    assert all(all(mask) for mask in encoded["attention_mask"]), "every row has 128 real word pieces"
    rows = [{"labels": row % 2, **{key: encoded[key][row] for key in encoded}} for row in range(len(texts))]
    model = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=2)
    clock = Clock()
    trainer = Trainer(
        model, arguments(max_steps=options.steps, bf16=options.bf16), train_dataset=rows, callbacks=[clock]
    )
    trainer.train()
    return {"times": clock.times}


def read(folder, split, task):
    columns, label, header = TASKS[task]
    with open(Path(folder) / f"{split}.tsv", encoding="utf-8", newline="\n") as file:
        lines = [line.rstrip("\n").split("\t") for line in file]
    lines = lines[1:] if header else lines
    return [[line[column] for line in lines] for column in columns], [line[label] for line in lines]


def epoch(options):
    texts, labels = zip(*(read(options.folder, split, options.task) for split in ("train", "dev")))
    regression = options.task == "sts"
    names = sorted(set(labels[0]))
    tokenizer = BertTokenizerFast.from_pretrained(options.model)

    def rows(texts, labels):
        encoded = tokenizer(*texts, padding=options.padding == "max_length" and "max_length", truncation=True, max_length=LONGEST)
        gold = [float(label) for label in labels] if regression else [names.index(label) for label in labels]
        return [{"labels": gold[row], **{key: encoded[key][row] for key in encoded}} for row in range(len(gold))]

    def score(said):
        if regression:
            return {"score": pearsonr(said.predictions[:, 0], said.label_ids).statistic}
        metric = matthews_corrcoef if options.task == "cola" else accuracy_score
        return {"score": metric(said.label_ids, np.argmax(said.predictions, axis=1))}

    trainer = Trainer(
        AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=1 if regression else len(names)),
        arguments(num_train_epochs=1, learning_rate=5e-5),
        train_dataset=rows(texts[0], labels[0]),
        eval_dataset=rows(texts[1], labels[1]),
        data_collator=DataCollatorWithPadding(tokenizer) if options.padding == "longest" else None,
        compute_metrics=score,
    )
    trainer.train()
    return {"score": 100 * float(trainer.evaluate()["eval_score"])}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("steps")
    command.set_defaults(measure=steps)
    command.add_argument("model")
    command.add_argument("train")
    command.add_argument("steps", type=int)
    command.add_argument("--bf16", action="store_true")
    command = commands.add_parser("epoch")
    command.set_defaults(measure=epoch)
    command.add_argument("model")
    command.add_argument("folder")
    command.add_argument("task", choices=TASKS)
    command.add_argument("padding", choices=["longest", "max_length"])
    options = parser.parse_args()
    measured = options.measure(options)
    print(json.dumps({**measured, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
