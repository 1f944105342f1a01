"""optimizer.safetensors and schedule.json: BERT's AdamWeightDecay with layer-wise rates, in float64 NumPy.

Written from the description: gradients are scaled by 1 / max(global norm, 1); m = 0.9 m + 0.1 g; v = 0.999 v + 0.001 g^2;
u = m / (sqrt(v) + 1e-6), without bias correction; u += weight_decay_rate * p for everything but LayerNorm and bias; p -= rate * u.
The rate at step s (from 0) is base * s / W in the warm-up of W = int(N * proportion) steps, then base * (1 - s / N), times
lr_decay^(L + 2 - depth): depth 0 for the embeddings, k + 1 for encoder layer k, L + 1 for the pooler, L + 2 for the heads.
"""

import re

import numpy as np
import torch

from files import f32, rng, write_json, write_tensors

BETA1, BETA2, EPSILON, CLIP_NORM = 0.9, 0.999, 1e-6, 1.0
STEPS, SNAPSHOTS = 50, (1, 2, 10, 50)
WARMUP_PROPORTION, WEIGHT_DECAY_RATE, LR_DECAY, LAYERS = 0.1, 0.01, 0.9, 2
# A hundred times BAM's rate, so that an error in a small term (decay, epsilon) shows above float32 rounding after 50 steps.
LEARNING_RATE = 0.01


def warmup_steps(train_steps, proportion):
    return int(train_steps * proportion)


def learning_rate(step, train_steps, proportion, base):
    warmup = warmup_steps(train_steps, proportion)
    if warmup > 0 and step < warmup:
        return base * step / warmup
    return base * (1.0 - step / train_steps)


def depth(name, layers):
    layer = re.search(r"encoder\.layer\.(\d+)\.", name)
    if name.startswith("embeddings."):
        return 0
    if layer:
        return int(layer.group(1)) + 1
    return {"pooler": layers + 1, "heads": layers + 2}[re.split(r"[./]", name)[0]]


def multiplier(name, layers, lr_decay):
    return lr_decay ** (layers + 2 - depth(name, layers)) if lr_decay > 0 else 1.0


def decayed(name):
    return re.search("LayerNorm|layer_norm|bias", name) is None


def update(p, m, v, g, rate, weight_decay_rate):
    m = BETA1 * m + (1 - BETA1) * g
    v = BETA2 * v + (1 - BETA2) * g**2
    u = m / (np.sqrt(v) + EPSILON)
    return p - rate * (u + weight_decay_rate * p), m, v


def write(out, seed):
    _write_run(out, rng(seed, "optimizer"))
    _write_schedule(out, seed, rng(seed, "schedule"))


def parameter_shapes(layers, hidden=4, intermediate=6, vocab=11, positions=5):
    """The parameters of a BERT with a three-label head and a regression head, in transformers' names and layout."""
    norm = {"weight": (hidden,), "bias": (hidden,)}
    linear = lambda wide, narrow: {"weight": (wide, narrow), "bias": (wide,)}
    modules = {
        "embeddings.word_embeddings": {"weight": (vocab, hidden)},
        "embeddings.position_embeddings": {"weight": (positions, hidden)},
        "embeddings.token_type_embeddings": {"weight": (2, hidden)},
        "embeddings.LayerNorm": norm,
    }
    for k in range(layers):
        layer = f"encoder.layer.{k}"
        for part in ("query", "key", "value"):
            modules[f"{layer}.attention.self.{part}"] = linear(hidden, hidden)
        modules[f"{layer}.attention.output.dense"] = linear(hidden, hidden)
        modules[f"{layer}.attention.output.LayerNorm"] = norm
        modules[f"{layer}.intermediate.dense"] = linear(intermediate, hidden)
        modules[f"{layer}.output.dense"] = linear(hidden, intermediate)
        modules[f"{layer}.output.LayerNorm"] = norm
    modules["pooler.dense"] = linear(hidden, hidden)
    shapes = {f"{module}.{part}": shape for module, parts in modules.items() for part, shape in parts.items()}
    return shapes | {"heads/a/weight": (3, hidden), "heads/a/bias": (3,), "heads/b/weight": (1, hidden), "heads/b/bias": (1,)}


def _write_run(out, random):
    shapes = parameter_shapes(LAYERS)
    initial = {name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    gradients = {name: random.normal(0, 1, (STEPS, *shape)) for name, shape in shapes.items()}
    # A sum loss clips nearly always, a small one never: scales on both sides of norm 1.
    scales = 10.0 ** random.uniform(-3.0, 1.0, STEPS)
    for name, gradient in gradients.items():
        gradient *= scales.reshape(-1, *[1] * (gradient.ndim - 1))
        gradients[name] = gradient.astype(np.float32)
    # A task without rows in the batch: its head still decays and moves by momentum.
    for name in ("heads/b/weight", "heads/b/bias"):
        gradients[name][10:20] = 0.0

    tensors, rates, norms = {}, [], []
    p = {name: value.astype(np.float64) for name, value in initial.items()}
    m = {name: np.zeros_like(value) for name, value in p.items()}
    v = {name: np.zeros_like(value) for name, value in p.items()}
    for step in range(STEPS):
        base = learning_rate(step, STEPS, WARMUP_PROPORTION, LEARNING_RATE)
        g = {name: gradients[name][step].astype(np.float64) for name in shapes}
        norm = float(np.sqrt(sum((value**2).sum() for value in g.values())))
        for name in shapes:
            rate = base * multiplier(name, LAYERS, LR_DECAY)
            decay = WEIGHT_DECAY_RATE if decayed(name) else 0.0
            clipped = g[name] / max(norm / CLIP_NORM, 1.0)
            p[name], m[name], v[name] = update(p[name], m[name], v[name], clipped, rate, decay)
        rates.append(base)
        norms.append(norm)
        if step + 1 in SNAPSHOTS:
            tensors |= {f"after_{step + 1}/{name}": value.astype(np.float32) for name, value in p.items()}

    assert rates[0] == 0.0 and any(n < 1 for n in norms) and any(n > 1 for n in norms)
    _check_with_torch(initial, gradients, rates, norms, p)
    for prefix, group in (("initial", initial), ("gradients", gradients), (f"m_{STEPS}", m), (f"v_{STEPS}", v)):
        tensors |= {f"{prefix}/{name}": value.astype(np.float32) for name, value in group.items()}
    tensors |= {"lr": np.array(rates), "norm": np.array(norms)}
    write_tensors(out / "optimizer.safetensors", tensors, _config(shapes))


def _check_with_torch(initial, gradients, rates, norms, expected):
    """torch's AdamW in float64 gives the same parameters once its bias correction is out of the way: at step 1e9 it is 1."""
    groups = [
        {
            "params": [torch.nn.Parameter(torch.from_numpy(value.astype(np.float64)))],
            "weight_decay": WEIGHT_DECAY_RATE if decayed(name) else 0.0,
            "name": name,
        }
        for name, value in initial.items()
    ]
    optimizer = torch.optim.AdamW(groups, betas=(BETA1, BETA2), eps=EPSILON, foreach=False, fused=False)
    for group in optimizer.param_groups:
        (parameter,) = group["params"]
        zeros = {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {"step": torch.tensor(1e9), **zeros}
    for step, (rate, norm) in enumerate(zip(rates, norms)):
        for group in optimizer.param_groups:
            group["lr"] = rate * multiplier(group["name"], LAYERS, LR_DECAY)
            gradient = gradients[group["name"]][step].astype(np.float64) / max(norm / CLIP_NORM, 1.0)
            group["params"][0].grad = torch.from_numpy(gradient)
        optimizer.step()
    for group in optimizer.param_groups:
        value = group["params"][0].detach().numpy()
        assert np.allclose(value, expected[group["name"]], rtol=0, atol=1e-12), group["name"]


def _config(shapes):
    return {
        "train_steps": STEPS,
        "warmup_steps": warmup_steps(STEPS, WARMUP_PROPORTION),
        "warmup_proportion": WARMUP_PROPORTION,
        "learning_rate": LEARNING_RATE,
        "lr_decay": LR_DECAY,
        "layers": LAYERS,
        "weight_decay_rate": WEIGHT_DECAY_RATE,
        "beta1": BETA1,
        "beta2": BETA2,
        "epsilon": EPSILON,
        "clip_norm": CLIP_NORM,
        "parameters": [
            {
                "name": name,
                "depth": depth(name, LAYERS),
                "multiplier": multiplier(name, LAYERS, LR_DECAY),
                "decayed": decayed(name),
            }
            for name in shapes
        ],
    }


# Numbers known from runs of the reference's own formulas: (train steps, base, {step: rate}).
KNOWN_RATES = [
    (234, 5e-5, {0: 0.0, 1: 2.173913e-6, 22: 4.782609e-5, 23: 4.508547e-5, 117: 2.5e-5, 233: 2.136752e-7}),
    (15, 1e-4, {0: 0.0, 1: 9.333333e-5, 7: 5.333333e-5, 14: 6.666667e-6}),
]
KNOWN_WARMUPS = {690: 69, 804: 80, 1080: 108, 36816: 3681, 1500: 150, 50646: 5064, 234: 23, 15: 1, 9: 0}
KNOWN_MULTIPLIERS = [
    ("heads/a/weight", 12, 1.0),
    ("pooler.dense.weight", 12, 0.9),
    ("encoder.layer.11.output.dense.weight", 12, 0.81),
    ("encoder.layer.0.output.dense.weight", 12, 0.254187),
    ("embeddings.LayerNorm.bias", 12, 0.228768),
    ("encoder.layer.0.output.dense.bias", 24, 0.071790),
    ("embeddings.word_embeddings.weight", 24, 0.064611),
]
KNOWN_SCALARS = [(0.0, [0.683792233, 0.570616270, 0.468706940]), (0.01, [0.682792233, 0.568933478, 0.466455214])]


def _write_schedule(out, seed, random):
    for train_steps, base, known in KNOWN_RATES:
        for step, rate in known.items():
            assert abs(learning_rate(step, train_steps, 0.1, base) - rate) < 1e-6 * base, (train_steps, step)
    for train_steps, warmup in KNOWN_WARMUPS.items():
        assert warmup_steps(train_steps, 0.1) == warmup, train_steps
    for name, layers, expected in KNOWN_MULTIPLIERS:
        assert abs(multiplier(name, layers, 0.9) - expected) < 1e-6, (name, layers)
    write_json(
        out / "schedule.json",
        {
            "seed": seed,
            "schedules": list(_schedules(random)),
            "multipliers": list(_multipliers()),
            "scalar_runs": list(_scalar_runs(random)),
        },
    )


def _schedules(random):
    # 100 * 0.29 is 28.999...: the product is cut, not rounded. 30 * 0.1 is 3.0 just so. Below 10 steps there is no warm-up.
    cases = [(n, 0.1, base) for n, base, _ in KNOWN_RATES] + [(n, 0.1, 1e-4) for n in KNOWN_WARMUPS]
    cases += [(100, 0.29, 1e-4), (30, 0.1, 1e-4), (1, 0.1, 1e-4), (50, 0.0, 1e-4), (50, 0.5, 1e-4), (10, 1.0, 1e-4)]
    cases += [(int(random.integers(1, 60000)), float(np.round(random.uniform(0, 0.3), 3)), 5e-5) for _ in range(10)]
    for train_steps, proportion, base in cases:
        warmup = warmup_steps(train_steps, proportion)
        steps = {0, 1, warmup - 1, warmup, warmup + 1, train_steps // 2, train_steps - 1}
        points = sorted(step for step in steps if 0 <= step < train_steps)
        yield {
            "train_steps": train_steps,
            "warmup_proportion": proportion,
            "warmup_steps": warmup,
            "learning_rate": base,
            "points": [[step, learning_rate(step, train_steps, proportion, base)] for step in points],
        }


def _multipliers():
    names = ["heads/a/bias", "pooler.dense.weight", "pooler.dense.bias"]
    names += [f"embeddings.{part}.weight" for part in ("word_embeddings", "token_type_embeddings", "LayerNorm")]
    for layers, lr_decay in ((12, 0.9), (24, 0.9), (6, 0.9), (3, 0.75), (2, 1.0), (12, 0.0), (12, -1.0)):
        encoder = [f"encoder.layer.{k}.attention.output.LayerNorm.weight" for k in range(layers)]
        for name in names + encoder:
            value = multiplier(name, layers, lr_decay)
            yield {"name": name, "layers": layers, "lr_decay": lr_decay, "multiplier": value}


def _scalar_runs(random):
    for weight_decay_rate, known in KNOWN_SCALARS:
        run = _scalar_run(1.0, [0.5, -0.25, 0.0], 0.1, weight_decay_rate)
        assert np.allclose(run["after"], known, rtol=0, atol=1e-9), run
        yield run
    for _ in range(10):
        gradients = f32(random.normal(0, 10.0 ** random.uniform(-7, 2), 12))
        rate = float(np.round(random.uniform(0, 0.2), 4))
        yield _scalar_run(f32(random.normal()), gradients, rate, float(random.choice([0.0, 0.01, 0.1])))


def _scalar_run(initial, gradients, rate, weight_decay_rate):
    p, m, v, after = initial, 0.0, 0.0, []
    for gradient in gradients:
        p, m, v = update(p, m, v, gradient, rate, weight_decay_rate)
        after.append(float(p))
    case = {"initial": initial, "gradients": gradients, "group_lr": rate}
    return case | {"weight_decay_rate": weight_decay_rate, "after": after}
