#!/usr/bin/env python3
"""Goes a training's way again, from its trace (docs/trace.md), with programs that nobody here wrote: transformers' tokenizer
and BertModel and torch's autograd, in float64. Rows, targets and initial weights come from files; loss and gradient norm of
every step, learning rate, lambda, loss weights' effect and the final weights are computed anew and compared.

    replay.py TRACE BAM_DIR [--tolerance 1e-4]

Prints the largest relative differences. The optimizer is optimizer.py's, the dropout that of docs/trace.md.
"""

import argparse
import csv
import json
import pickle
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file
from torch.nn import functional
from transformers.models.bert import modeling_bert
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

import optimizer
from truncation import kept

# Zero-based columns of the two texts and the label in train.tsv, from GLUE's files; a header but for CoLA.
COLUMNS = {
    "cola": (3, None, 1),
    "mnli": (8, 9, -1),
    "mrpc": (3, 4, 0),
    "qnli": (1, 2, 3),
    "qqp": (3, 4, 5),
    "rte": (1, 2, 3),
    "sst": (0, None, 1),
    "sts": (-3, -2, -1),
}


class Trace:
    def __init__(self, path):
        with open(path, encoding="utf-8") as lines:
            self.header, *self.steps = map(json.loads, lines)
        assert self.header["format"] == "bam-trace-1", path
        assert [line["step"] for line in self.steps] == list(range(self.header["steps"])), "not all steps are there"
        self.weights = load_file(Path(path).with_name(self.header["weights"]))


class Examples:
    """Word pieces and labels of a task's training rows, by eid."""

    def __init__(self, bam_dir, pretrained, header, task):
        self.header, self.task = header, task
        vocabulary = bam_dir / "pretrained_models" / pretrained / "vocab.txt"
        self.tokenizer = BertTokenizerLegacy(str(vocabulary), do_lower_case=header["doLowerCase"])
        with open(bam_dir / "glue_data" / task["name"] / "train.tsv", encoding="utf-8", newline="\n") as file:
            rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        self.rows = rows if task["name"] == "cola" else rows[1:]

    def texts(self, eid):
        """From the number of rows on, the rows stand again with their texts swapped."""
        row = self.rows[eid % len(self.rows)]
        a, b, _ = COLUMNS[self.task["name"]]
        texts = [row[a]] if b is None else [row[a], row[b]]
        return texts if eid < len(self.rows) else texts[::-1]

    def label(self, eid):
        label = self.rows[eid % len(self.rows)][COLUMNS[self.task["name"]][2]]
        if self.task["range"]:
            least, most = self.task["range"]
            return (float(label) - least) / (most - least)
        return self.task["labels"].index(label)

    def layout(self, eid):
        """Word pieces, and how many of them are of segment 0."""
        pieces = [self.tokenizer.convert_tokens_to_ids(self.tokenizer.tokenize(text)) for text in self.texts(eid)]
        limit, (cls, sep) = self.header["maxSeqLength"], self.tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
        if len(pieces) == 1 or not pieces[1]:
            ids = [cls, *pieces[0][: limit - 2], sep]
            return ids, len(ids)
        a, b = kept(len(pieces[0]), len(pieces[1]), limit - 3)
        return [cls, *pieces[0][:a], sep, *pieces[1][:b], sep], a + 2


class Dropout:
    """The masks of docs/trace.md: functions of the step's seed, place, row, coordinates."""

    RATIO = np.uint64(0x9E3779B97F4A7C15)
    EMBEDDINGS, PROBABILITIES, ATTENTION, FEED_FORWARD, HEAD = range(5)

    def __init__(self):
        self.seed, self.rows = None, None

    @staticmethod
    def finish(bits):
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return bits ^ (bits >> np.uint64(31))

    @classmethod
    def mix(cls, key):
        return cls.finish(key + cls.RATIO)

    def apply(self, values, rate, kind, number, rows=None):
        """`values` [rows, width], [rows, tokens, width] or [rows, heads, tokens, width]."""
        if rate == 0.0 or self.seed is None:
            return values
        shape = tuple(values.shape)
        heads, tokens = {2: (1, 1), 3: (1, shape[1]), 4: shape[1:3]}[len(shape)]
        word = lambda numbers: np.array(numbers, dtype=np.uint64)
        key = self.mix(word([self.seed]) ^ self.mix(word([number << 8 | kind])))
        key = self.mix(key ^ self.mix(word(self.rows if rows is None else rows)))[:, None, None]
        line = word(range(heads))[:, None] << np.uint64(32) | word(range(tokens))
        state = self.mix(key ^ line)[..., None] + self.RATIO * word(range(1, (shape[-1] + 3) // 4 + 1))
        bits = self.finish(state)[..., None] >> word([0, 16, 32, 48]) & np.uint64(0xFFFF)
        bits = bits.reshape(*bits.shape[:3], -1)[..., : shape[-1]].reshape(shape)
        dropped = round(rate * 65536)
        factors = np.where(bits < dropped, 0.0, np.float64(np.float32(65536 / (65536 - dropped))))
        return values * torch.from_numpy(factors)


class KeyedDropout(torch.nn.Module):
    def __init__(self, dropout, rate, kind, number):
        super().__init__()
        self.apply_mask = lambda values: dropout.apply(values, rate, kind, number)

    def forward(self, values):
        return self.apply_mask(values)


def attention_with(dropout, rate):
    """transformers' eager attention, with keyed dropout of the probabilities."""

    def attention(module, query, key, value, attention_mask, scaling=None, **_):
        scores = query @ key.transpose(2, 3) * scaling
        probabilities = torch.softmax(scores if attention_mask is None else scores + attention_mask, dim=-1)
        probabilities = dropout.apply(probabilities, rate, Dropout.PROBABILITIES, module.layer_idx)
        return (probabilities @ value).transpose(1, 2).contiguous(), probabilities

    return attention


class Replay:
    """A model on its way. `examples` and `targets` (eid to logits; or nothing) by task."""

    def __init__(self, trace, examples, targets):
        self.header, self.examples, self.targets = trace.header, examples, targets
        self.tasks = {task["name"]: task for task in trace.header["tasks"]}
        config = transformers.BertConfig(**trace.header["model"], attn_implementation="eager")
        self.dropout = Dropout()
        self.bert = modeling_bert.BertModel(config).double().train()
        self._key_dropout(config)
        weights = {name: torch.from_numpy(value).double() for name, value in trace.weights.items()}
        of_bert = {name.removeprefix("bert."): value for name, value in weights.items() if name.startswith("bert.")}
        missing, unexpected = self.bert.load_state_dict(of_bert, strict=False)
        assert not unexpected and not missing, (missing, unexpected)
        self.parameters = dict(self.bert.named_parameters())
        heads = {name: value for name, value in weights.items() if name.startswith("heads.")}
        self.parameters |= {name: torch.nn.Parameter(value) for name, value in heads.items()}
        zeros = lambda: {name: np.zeros(tuple(value.shape)) for name, value in self.parameters.items()}
        self.first, self.second = zeros(), zeros()

    def _key_dropout(self, config):
        rate = config.hidden_dropout_prob
        self.bert.embeddings.dropout = KeyedDropout(self.dropout, rate, Dropout.EMBEDDINGS, 0)
        for number, layer in enumerate(self.bert.encoder.layer):
            layer.attention.output.dropout = KeyedDropout(self.dropout, rate, Dropout.ATTENTION, number)
            layer.output.dropout = KeyedDropout(self.dropout, rate, Dropout.FEED_FORWARD, number)
        self.attention = attention_with(self.dropout, config.attention_probs_dropout_prob)

    def pooled(self, layouts):
        length = max(len(ids) for ids, _ in layouts)
        pad = lambda rows: torch.tensor([row + [0] * (length - len(row)) for row in rows])
        with mock.patch.object(modeling_bert, "eager_attention_forward", self.attention):
            return self.bert(
                input_ids=pad([ids for ids, _ in layouts]),
                token_type_ids=pad([[0] * first + [1] * (len(ids) - first) for ids, first in layouts]),
                attention_mask=pad([[1] * len(ids) for ids, _ in layouts]),
            ).pooler_output

    def logits(self, task, pooled):
        return functional.linear(pooled, self.parameters[f"heads.{task}.weight"], self.parameters[f"heads.{task}.bias"])

    def losses(self, task, eids, logits, gold_weight):
        """Of each row, unweighted."""
        labels = [self.examples[task].label(eid) for eid in eids]
        teacher = None
        if self.targets.get(task) is not None:
            teacher = torch.tensor(np.array([self.targets[task][eid] for eid in eids]), dtype=torch.float64)
        if self.tasks[task]["range"]:
            target, said = torch.tensor(labels, dtype=torch.float64), logits[:, 0]
            if teacher is not None:
                target = gold_weight * target + (1.0 - gold_weight) * teacher[:, 0]
            return (said - target) ** 2
        gold = functional.cross_entropy(logits, torch.tensor(labels), reduction="none")
        if teacher is None:
            return gold
        heat = self.header["temperature"]
        soft = functional.cross_entropy(logits / heat, torch.softmax(teacher / heat, dim=1), reduction="none")
        return gold_weight * gold + (1.0 - gold_weight) * heat**2 * soft

    def step(self, line):
        """Does a step, on the rows of a line. Returns its loss, gradient norm, learning rate and lambda."""
        number, header = line["step"], self.header
        places = [(position, *row) for position, row in enumerate(line["rows"]) if row is not None]
        gold_weight = number / header["steps"] if header["annealing"] else 1.0 - header["distillWeight"]
        self.dropout.seed, self.dropout.rows = line.get("dropoutSeed"), [position for position, _, _ in places]
        pooled = self.pooled([self.examples[task].layout(eid) for _, task, eid in places])
        loss = torch.zeros((), dtype=torch.float64)
        for head, (task, about) in enumerate(self.tasks.items()):
            own = [at for at, (_, of, _) in enumerate(places) if of == task]
            if own:
                rows = [places[at][0] for at in own]
                dropped = self.dropout.apply(pooled[own], header["headDropout"], Dropout.HEAD, head, rows)
                losses = self.losses(task, [places[at][2] for at in own], self.logits(task, dropped), gold_weight)
                loss = loss + about["weight"] * losses.sum()
        return float(loss.detach()), *self._update(loss, number), gold_weight

    def _update(self, loss, number):
        header = self.header
        names, parameters = zip(*self.parameters.items())
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        gradients = {name: gradient.numpy() for name, gradient in zip(names, gradients)}
        norm = float(np.sqrt(sum((gradient**2).sum() for gradient in gradients.values())))
        base = optimizer.learning_rate(number, header["steps"], header["warmupProportion"], header["learningRate"])
        for name, parameter in self.parameters.items():
            rate = base * optimizer.multiplier(name, header["layers"], header["lrDecay"])
            decay = header["weightDecayRate"] if optimizer.decayed(name) else 0.0
            clipped = gradients[name] / max(norm / header["clipNorm"], 1.0)
            state = parameter.detach().numpy(), self.first[name], self.second[name]
            value, self.first[name], self.second[name] = optimizer.update(*state, clipped, rate, decay)
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(value))
        return norm, base

    def predict(self, task, eids):
        """Logits of rows, by eid, without dropout."""
        self.dropout.seed = None
        with torch.no_grad():
            pooled = self.pooled([self.examples[task].layout(eid) for eid in eids])
            return dict(zip(eids, self.logits(task, pooled).numpy()))

    def weights(self):
        """By the names of the trainer's files."""
        named = lambda name: name if name.startswith("heads.") else f"bert.{name}"
        return {named(name): value.detach().numpy() for name, value in self.parameters.items()}


def targets(bam_dir, task):
    """The mean of the logits of those of a task's teachers that have a row (out of fold, one has), by eid."""
    files = [bam_dir / "runs" / teacher / "targets" / f"{task['name']}.safetensors" for teacher in task["teachers"]]
    said = {}
    for file in files + [bam_dir / file for file in task["targetFiles"]]:
        for eid, logits in predictions(file):
            said.setdefault(eid, []).append(np.atleast_1d(logits).astype(np.float64))
    return {eid: np.mean(logits, axis=0) for eid, logits in said.items()} or None


def predictions(file):
    """Pairs of eid and logits: of a run, or of the reference's pickles (of those who trust them: a pickle is a program)."""
    if file.suffix == ".safetensors":
        tensors = load_file(file)
        return zip(tensors["eid"].tolist(), tensors["logits"])
    return pickle.loads(file.read_bytes()).items()


def difference(found, expected):
    return abs(found - expected) / max(abs(expected), 1e-12)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("bam_dir", type=Path)
    parser.add_argument("--pretrained", required=True, help="folder below pretrained_models, for its vocabulary")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest relative difference; default: 1e-4")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()

    trace = Trace(options.trace)
    tasks = trace.header["tasks"]
    examples = {task["name"]: Examples(options.bam_dir, options.pretrained, trace.header, task) for task in tasks}
    replay = Replay(trace, examples, {task["name"]: targets(options.bam_dir, task) for task in tasks})
    largest = dict.fromkeys(("loss", "gradientNorm", "learningRate", "lambda"), 0.0)
    for line in trace.steps:
        if line["gradientNorm"] is None:
            continue  # It was skipped.
        for name, found in zip(largest, replay.step(line)):
            largest[name] = max(largest[name], difference(found, line[name]))
    model = options.bam_dir / "runs" / trace.header["scienceHash"] / "model"
    trained = load_file(model / "model.safetensors")
    for task in (task["name"] for task in trace.header["tasks"]):
        head = load_file(model / task / "head.safetensors")
        trained |= {name.replace("classifier", f"heads.{task}"): value for name, value in head.items()}
    weights = replay.weights()
    assert trained.keys() == weights.keys()
    scale = max(np.abs(value).max() for value in weights.values())
    largest["weights"] = max(float(np.abs(trained[name] - value).max()) for name, value in weights.items()) / scale
    for name, value in largest.items():
        print(f"{name}: within {value:.1e}")
    sys.exit(any(value > options.tolerance for value in largest.values()))


if __name__ == "__main__":
    main()
