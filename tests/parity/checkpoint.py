#!/usr/bin/env python3
"""checkpoint/: a BERT as Google published them, written by TensorFlow's Saver, and values.safetensors: what TensorFlow reads of it.

Two layers of random numbers, an optimizer's slots, the pre-training heads and a step counter, as in an archive of Google's; and
variables of the other number types.
"""

import argparse
import json
import os
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
from safetensors.numpy import save as save_tensors

from files import rng
from generate import FIXED_SEED, GOLDEN

CONFIG = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 8,
    "initializer_range": 0.02,
    "intermediate_size": 12,
    "max_position_embeddings": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "type_vocab_size": 2,
    "vocab_size": 20,
}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
OTHER_TYPES = {"half": tf.float16, "bfloat16": tf.bfloat16, "double": tf.float64, "int32": tf.int32}


def shapes():
    """The variables of Google's BERT."""
    hidden, wide = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    rows = {"word": CONFIG["vocab_size"], "position": CONFIG["max_position_embeddings"], "token_type": CONFIG["type_vocab_size"]}
    yield from ((f"bert/embeddings/{name}_embeddings", (size, hidden)) for name, size in rows.items())
    dense = {}
    norms = ["bert/embeddings"]
    for layer in range(CONFIG["num_hidden_layers"]):
        place = f"bert/encoder/layer_{layer}"
        dense |= {f"{place}/attention/self/{name}": (hidden, hidden) for name in ("query", "key", "value")}
        dense[f"{place}/attention/output/dense"] = (hidden, hidden)
        dense[f"{place}/intermediate/dense"] = (hidden, wide)
        dense[f"{place}/output/dense"] = (wide, hidden)
        norms += [f"{place}/attention/output", f"{place}/output"]
    dense["bert/pooler/dense"] = (hidden, hidden)
    dense["cls/predictions/transform/dense"] = (hidden, hidden)
    norms.append("cls/predictions/transform")
    for name, (inputs, outputs) in dense.items():
        yield f"{name}/kernel", (inputs, outputs)
        yield f"{name}/bias", (outputs,)
    for name in norms:
        yield f"{name}/LayerNorm/gamma", (hidden,)
        yield f"{name}/LayerNorm/beta", (hidden,)
    yield "cls/predictions/output_bias", (CONFIG["vocab_size"],)
    yield "cls/seq_relationship/output_weights", (2, hidden)


def write(out, seed):
    random = rng(seed, "checkpoint")
    values = {name: random.normal(0.0, 0.5, shape).astype(np.float32) for name, shape in shapes()}
    slots = [name for name in values if name.startswith("bert/pooler")]
    values |= {f"{name}/adam_{slot}": random.random(values[name].shape, dtype=np.float32) for name in slots for slot in "mv"}
    values["global_step"] = np.array(1_000_000, np.int64)
    for name, kind in OTHER_TYPES.items():
        values[f"other/{name}"] = random.integers(-8, 8, (2, 3)).astype(kind.as_numpy_dtype) / kind.as_numpy_dtype(1)
    values["other/int32"] = values["other/int32"].astype(np.int32)

    folder = out / "checkpoint"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bert_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n", encoding="ascii")
    pieces = SPECIAL + [chr(ord("a") + number) for number in range(CONFIG["vocab_size"] - len(SPECIAL))]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="ascii")
    save(folder / "bert_model.ckpt", values)

    reader = tf.train.load_checkpoint(str(folder / "bert_model.ckpt"))
    read = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    for name, value in values.items():
        if not np.array_equal(read[name], value):
            raise AssertionError(f"TensorFlow reads another {name} than it wrote")
    kinds = {name: np.int64 if value.dtype == np.int64 else np.float64 for name, value in read.items()}
    wide = {name: np.asarray(value, kinds[name]) for name, value in sorted(read.items())}
    (folder / "values.safetensors").write_bytes(save_tensors(wide))


def save(prefix, values):
    """As TensorFlow 1 does it."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        variables = [v1.get_variable(name, initializer=tf.constant(value)) for name, value in values.items()]
        session.run(v1.global_variables_initializer())
        v1.train.Saver(variables).save(session, str(prefix), write_meta_graph=False, write_state=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=FIXED_SEED, help="default: that of the committed files")
    parser.add_argument("--out", type=Path, default=GOLDEN, help="folder to write to; default: trainer/tests/golden")
    options = parser.parse_args()
    write(options.out, options.seed)


if __name__ == "__main__":
    main()
