#!/usr/bin/env python3
"""training.json, training.safetensors: a whole small training, distilled and multi-task, as replay.py's programs do it.

    training.py --trainer target/debug/bam-trainer --seed N --out FOLDER

Makes a BAM_DIR with a random tiny BERT and made-up rows, trains three teachers and their student with the trainer, and takes
from its traces what is drawn at random (which rows, first weights of the heads, seeds of dropout). The rest is computed anew:
the student's teachers are replayed ones too. Once without any dropout, once with it in encoder and heads. On the way,
TensorBoard reads the trainer's event files.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import transformers
from safetensors.numpy import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from files import rng, write_json, write_tensors
from replay import Examples, Replay, Trace

CONFIG = {
    "vocab_size": 0,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
LENGTH = 16
ROWS = {"rte": 40, "mrpc": 30, "sts": 24}
LABELS = {"rte": ("entailment", "not_entailment"), "mrpc": ("0", "1")}
OPTIONS = {
    "pretrained_model_name": "tiny",
    "max_seq_length": LENGTH,
    "num_train_epochs": 2,
    "learning_rate": 1e-3,
    "write_test_outputs": False,
    "write_trace": True,
    "write_tensorboard": True,
}
# The reference's loss weights for tasks of GLUE, whatever others there are.
KNOWN_WEIGHTS = {"rte": 0.8815611976125434, "mrpc": 0.8971730283474452, "sts": 1.202753758156886}
DROPOUT = {"without": 0.0, "with": 0.1}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainer", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    random = rng(options.seed, "training")
    files = _files(random)
    weights = _weights(random)
    # The trainer's own bound of seeds.
    seed = int(random.integers(1, 1_000_000))
    models = [
        model
        for name, rate in DROPOUT.items()
        for model in _models(options.trainer.resolve(), files, weights, name, rate, seed)
    ]
    write_json(options.out / "training.json", {"seed": options.seed, "files": files, "models": models})
    write_tensors(options.out / "training.safetensors", weights, CONFIG)


def _files(random):
    """Path and text of every file but the weights."""
    words = ["".join(random.choice(list("abcdefghijklmnop"), 4)) for _ in range(50)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(words), ".", "##s", "##ed"]
    CONFIG["vocab_size"] = len(pieces)
    files = [{"path": "pretrained_models/tiny/vocab.txt", "text": "\n".join(pieces) + "\n"}]
    for task, rows in ROWS.items():
        for split, rows in (("train", rows), ("dev", 8)):
            lines = [_line(random, words, task, row) for row in range(rows)]
            text = "\n".join(["a header", *lines]) + "\n"
            files.append({"path": f"glue_data/{task}/{split}.tsv", "text": text})
    return files


def _line(random, words, task, row):
    def text():
        chosen = random.choice(words, int(random.integers(1, 12)))
        return " ".join(str(word) + str(random.choice(["", "", "s", "ed"])) for word in chosen) + " ."

    a, b = text(), text()
    if task == "sts":
        return "\t".join([str(row), a, b, f"{random.integers(0, 26) / 5:.3f}"])
    label = LABELS[task][int(random.integers(0, 2))]
    return "\t".join([str(row), a, b, label] if task == "rte" else [label, "1", "2", a, b])


def _weights(random):
    hidden, wide = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    tables = {"word": CONFIG["vocab_size"], "position": CONFIG["max_position_embeddings"], "token_type": 2}
    shapes = {f"embeddings.{name}_embeddings.weight": (rows, hidden) for name, rows in tables.items()}
    dense = {f"attention.self.{part}": (hidden, hidden) for part in ("query", "key", "value")}
    dense |= {"attention.output.dense": (hidden, hidden), "intermediate.dense": (wide, hidden), "output.dense": (hidden, wide)}
    layers = [f"encoder.layer.{number}." for number in range(CONFIG["num_hidden_layers"])]
    dense = {layer + name: shape for layer in layers for name, shape in dense.items()} | {"pooler.dense": (hidden, hidden)}
    shapes |= {f"{name}.weight": shape for name, shape in dense.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in dense.items()}
    norms = ["embeddings.LayerNorm"] + [layer + part for layer in layers for part in ("attention.output.LayerNorm", "output.LayerNorm")]
    shapes |= {f"{norm}.{part}": (hidden,) for norm in norms for part in ("weight", "bias")}
    draw = lambda name, shape: random.normal(1.0 if name.endswith("LayerNorm.weight") else 0.0, 0.2, shape).astype(np.float32)
    return {name: draw(name, shape) for name, shape in shapes.items()}


def _models(trainer, files, weights, dropout, rate, seed):
    """Teachers and student: name, options, and per step what the replay says."""
    with tempfile.TemporaryDirectory() as folder:
        bam_dir = Path(folder)
        for file in files:
            path = bam_dir / file["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file["text"], encoding="utf-8")
        pretrained = bam_dir / "pretrained_models" / "tiny"
        rates = {"hidden_dropout_prob": rate, "attention_probs_dropout_prob": rate}
        (pretrained / "config.json").write_text(json.dumps(CONFIG | rates))
        save_file(weights, pretrained / "model.safetensors", metadata={"format": "pt"})

        # The heads' rate is the trainer's own option: no file of the model has it.
        shared = OPTIONS | {"head_dropout_prob": rate, "seed": seed}
        teachers = {}
        for task in ROWS:
            name, options = f"{task}-model", shared | {"task_names": [task], "train_batch_size": 8}
            replay, said = _replayed(trainer, bam_dir, name, options, {})
            eids = range(ROWS[task] * (1 if task == "rte" else 2))
            teachers[task] = replay.predict(task, eids)
            yield _model(name, dropout, rates, options, said)
        options = shared | {"task_names": list(ROWS), "train_batch_size": 16, "distill": True}
        options["teachers"] = {task: f"{task}-model" for task in ROWS}
        replay, said = _replayed(trainer, bam_dir, "student", options, teachers)
        for task, about in replay.tasks.items():
            assert abs(about["weight"] - KNOWN_WEIGHTS[task]) < 1e-12, about
        yield _model("student", dropout, rates, options, said)


def _model(name, dropout, rates, options, steps):
    return {"name": name, "dropout": dropout, "config": CONFIG | rates, "options": options, "steps": steps}


def _check_events(model, trace):
    """TensorBoard itself reads from the event files what the trace and the results say."""
    events = EventAccumulator(str(model / "tensorboard" / "trial_1"))
    events.Reload()
    scalars = lambda tag: [(event.step, event.value) for event in events.Scalars(tag)]
    for tag, key in (("loss", "loss"), ("gradient_norm", "gradientNorm"), ("learning_rate", "learningRate"), ("lambda", "lambda")):
        assert scalars(f"train/{tag}") == [(line["step"], np.float32(line[key])) for line in trace.steps], tag
    (trial,) = json.loads((model / "results.json").read_text())["trials"]
    for result in trial["results"]:
        for metric, value in result["metrics"].items():
            assert scalars(f"dev/{result['task']}/{metric}") == [(len(trace.steps), np.float32(value))], metric
    # The tasks' mean losses, weighted, are the loss.
    sums = np.zeros(len(trace.steps))
    for task in trace.header["tasks"]:
        for step, mean in scalars(f"train/loss/{task['name']}"):
            rows = sum(row is not None and row[0] == task["name"] for row in trace.steps[step]["rows"])
            sums[step] += task["weight"] * rows * mean
    assert np.allclose(sums, [line["loss"] for line in trace.steps], rtol=1e-5, atol=0)


def _replayed(trainer, bam_dir, name, options, targets):
    command = [trainer, name, bam_dir, json.dumps(options)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    trace = Trace(bam_dir / "models" / name / "outputs" / "trace_1.jsonl")
    _check_events(bam_dir / "models" / name, trace)
    tasks = trace.header["tasks"]
    examples = {task["name"]: Examples(bam_dir, "tiny", trace.header, task) for task in tasks}
    replay = Replay(trace, examples, targets)
    said = []
    for line in trace.steps:
        loss, norm, learning_rate, gold_weight = replay.step(line)
        said.append(
            {
                "rows": line["rows"],
                # Rounded to what does not depend on the order in which a processor sums.
                "loss": float(f"{loss:.10g}"),
                "gradientNorm": float(f"{norm:.10g}"),
                "learningRate": learning_rate,
                "lambda": gold_weight,
            }
        )
    return replay, said


if __name__ == "__main__":
    main()
