#!/usr/bin/env python3
"""transformers_loads.py MODEL TARGETS TEXTS: does transformers load every task of a finished run, and say the same of its texts?

MODEL is the run's folder model/, TARGETS that of its targets (this trainer's logits over its training rows), TEXTS a JSON file:
{task: [[first text, second text], …]}, the rows in the order of the targets, of which it may lack the last.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

# Both compute in float32, in another order.
TOLERANCE = 1e-5


def main():
    model, targets = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    texts = json.loads(Path(sys.argv[3]).read_text(encoding="utf-8"))
    loaded(AutoModel, model)
    for task, rows in texts.items():
        folder = model / task
        tokenizer = AutoTokenizer.from_pretrained(folder)
        with safe_open(targets / f"{task}.safetensors", "pt") as file:
            expected = file.get_tensor("logits")[: len(rows)]
            labels = json.loads(file.metadata()["targets"])["labels"]
        classifier = loaded(AutoModelForSequenceClassification, folder)
        kind = "single_label_classification" if labels else "regression"
        config = classifier.config
        same(task, "problem_type", config.problem_type, kind)
        same(task, "id2label", config.id2label, dict(enumerate(labels or ["score"])))
        same(task, "label2id", config.label2id, {label: number for number, label in config.id2label.items()})
        first, second = zip(*rows, strict=True)
        inputs = tokenizer(list(first), list(second), truncation=True, padding=True, return_tensors="pt")
        with torch.no_grad():
            logits = classifier(**inputs).logits
        same(task, "the shape of the logits", logits.shape, expected.shape)
        difference = (logits - expected).abs().max().item()
        spread = (expected.max() - expected.min()).item()
        print(f"{task}: {len(rows)} rows, largest difference {difference:.1e}, logits spread over {spread:.2f}")
        if spread < 0.1:
            raise AssertionError(f"{task}: the logits are too much alike to compare anything")
        if not difference < TOLERANCE:
            raise AssertionError(f"{task}: logits differ by {difference}")


def loaded(kind, folder):
    """A model whose files have all that it wants and nothing else."""
    model, found = kind.from_pretrained(folder, output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        same(folder, problem, list(found[problem]), [])
    return model.eval()


def same(what, of, found, expected):
    if found != expected:
        raise AssertionError(f"{what}: {of} is {found}, not {expected}")


if __name__ == "__main__":
    main()
