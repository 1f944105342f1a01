"""encoder_NAME.safetensors: transformers' BertModel and torch autograd on random weights, with two heads and BAM's sum loss.

All in float64 from weights that are exact in float32: the stored values are then right to the last bit of float32, whatever the
order in which a processor sums. Only what is zero but for rounding (a key's bias moves all scores of a row alike, so it has no
gradient) would show that order; it is stored as zero.

encoder_bf16.json: how far the same model is from that under autocast in bf16. It differs from weights to weights, and gradients that
nearly cancel lose a tenth: what is close enough, only the peer can say.
"""

import copy

import numpy as np
import torch
from torch.nn import functional
from transformers import BertConfig, BertModel

from files import rng, write_json, write_tensors

VOCABULARY = 120
CLASSES = 3
# Rounding noise of these float64 sums stays under it; no true value comes near it.
NOISE = 1e-13
# name: hidden, layers, heads, intermediate, positions, length, lengths of the rows, task of each row (0 = a, 1 = b)
SIZES = {
    "narrow": (32, 4, 2, 128, 64, 24, (24, 1, 2, 7, 13, 23, 1), (0, 1, 1, 0, 0, 1, 0)),
    "middle": (48, 3, 6, 64, 64, 64, (3, 64, 1, 40, 64), (1, 0, 0, 1, 1)),
    "long": (64, 2, 8, 64, 512, 512, (1, 512), (0, 0)),
}


def write(out, seed):
    torch.set_num_threads(1)
    rounded = []
    for name, (hidden, layers, heads, intermediate, positions, length, lengths, tasks) in SIZES.items():
        random = rng(seed, f"encoder {name}")
        config = BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=intermediate,
            max_position_embeddings=positions,
            type_vocab_size=2,
            hidden_act="gelu",
            layer_norm_eps=1e-12,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            attn_implementation="eager",
        )
        model = BertModel(config).double().eval()
        parameters = dict(model.named_parameters())
        parameters |= {
            "heads/a/weight": torch.nn.Parameter(torch.empty(CLASSES, hidden, dtype=torch.float64)),
            "heads/a/bias": torch.nn.Parameter(torch.empty(CLASSES, dtype=torch.float64)),
            "heads/b/weight": torch.nn.Parameter(torch.empty(1, hidden, dtype=torch.float64)),
            "heads/b/bias": torch.nn.Parameter(torch.empty(1, dtype=torch.float64)),
        }
        _draw(parameters, random)
        inputs = _inputs(random, length, lengths, tasks)
        outputs = _run(model, parameters, inputs)
        outputs["loss"].backward()
        rounded.append({"name": name} | _in_bf16(model, parameters, inputs, outputs))

        tensors = {f"inputs/{key}": value.numpy() for key, value in inputs.items()}
        tensors |= {f"outputs/{key}": _float32(value) for key, value in outputs.items()}
        for key, parameter in parameters.items():
            tensors[f"weights/{key}"] = _float32(parameter)
            tensors[f"gradients/{key}"] = _float32(parameter.grad)
        write_tensors(out / f"encoder_{name}.safetensors", tensors, _bert_config(config))
    write_json(out / "encoder_bf16.json", {"seed": seed, "encoders": rounded})


def _in_bf16(model, parameters, inputs, outputs):
    """Root mean square of what autocast does to the pooled tokens, and what it does to the gradient, relative."""
    model = copy.deepcopy(model).float()
    heads = {key: value.detach().float().requires_grad_() for key, value in parameters.items() if key.startswith("heads/")}
    own = dict(model.named_parameters()) | heads
    for parameter in own.values():
        parameter.grad = None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoded = model(**{key: inputs[key] for key in ("input_ids", "token_type_ids", "attention_mask")})
    half = _losses(encoded.pooler_output.float(), own, inputs)
    half["loss"].backward()
    gradient = lambda of: torch.cat([value.grad.double().flatten() for value in of.values()])
    exact = gradient(parameters)
    pooled = (half["pooled"].double() - outputs["pooled"]).square().mean().sqrt()
    return {
        "pooled": float(f"{pooled:.2g}"),
        "gradient": float(f"{(gradient(own) - exact).norm() / exact.norm():.2g}"),
    }


def _draw(parameters, random):
    """Wide enough that attention is not even and tanh not linear; every bias and LayerNorm differs from its usual start."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            shape = tuple(parameter.shape)
            if name.endswith("LayerNorm.weight"):
                values = random.normal(1.0, 0.2, shape)
            elif name.endswith("bias"):
                values = random.normal(0.0, 0.2, shape)
            elif name.startswith("embeddings."):
                # Small, so that a wrong LayerNorm epsilon shows.
                values = random.normal(0.0, 0.05, shape)
            else:
                values = random.normal(0.0, 1.0 / np.sqrt(shape[1]), shape)
            parameter.copy_(torch.from_numpy(values.astype(np.float32)))


def _inputs(random, length, lengths, tasks):
    rows = len(lengths)
    ids = np.zeros((rows, length), np.int64)
    types, mask = ids.copy(), ids.copy()
    for row, used in enumerate(lengths):
        ids[row, :used] = random.integers(1, VOCABULARY, used)
        types[row, used - used // 3 : used] = 1
        mask[row, :used] = 1
    task = np.array(tasks, np.int64)
    inputs = {
        "input_ids": ids,
        "token_type_ids": types,
        "attention_mask": mask,
        "task": task,
        "label": np.where(task == 0, random.integers(0, CLASSES, rows), 0),
        "score": np.where(task == 1, random.random(rows), 0).astype(np.float32),
        "weight": random.uniform(0.5, 1.5, 2).astype(np.float32),
    }
    return {key: torch.from_numpy(value) for key, value in inputs.items()}


def _run(model, parameters, inputs):
    encoded = model(**{key: inputs[key] for key in ("input_ids", "token_type_ids", "attention_mask")})
    last_hidden = encoded.last_hidden_state * inputs["attention_mask"].unsqueeze(2)
    return {"last_hidden": last_hidden} | _losses(encoded.pooler_output, parameters, inputs)


def _losses(pooled, parameters, inputs):
    kind = pooled.dtype
    logits = functional.linear(pooled, parameters["heads/a/weight"], parameters["heads/a/bias"])
    prediction = functional.linear(pooled, parameters["heads/b/weight"], parameters["heads/b/bias"]).squeeze(1)
    cross_entropy = functional.cross_entropy(logits, inputs["label"], reduction="none")
    squared_error = (prediction - inputs["score"].to(kind)) ** 2
    # Both heads run on every row and the other task's loss is masked, so that an idle head has zero gradients rather than none.
    of_a = (inputs["task"] == 0).to(kind)
    row_loss = of_a * cross_entropy + (1.0 - of_a) * squared_error
    return {
        "pooled": pooled,
        "logits_a": logits,
        "prediction_b": prediction,
        "row_loss": row_loss,
        "loss": (inputs["weight"].to(kind)[inputs["task"]] * row_loss).sum(),
    }


def _float32(tensor):
    values = tensor.detach().numpy()
    return np.where(np.abs(values) < NOISE, 0.0, values).astype(np.float32)


def _bert_config(config):
    """The keys of Google's bert_config.json, and the LayerNorm epsilon that it leaves out."""
    keys = (
        "attention_probs_dropout_prob",
        "hidden_act",
        "hidden_dropout_prob",
        "hidden_size",
        "initializer_range",
        "intermediate_size",
        "layer_norm_eps",
        "max_position_embeddings",
        "num_attention_heads",
        "num_hidden_layers",
        "type_vocab_size",
        "vocab_size",
    )
    return {key: getattr(config, key) for key in keys}
