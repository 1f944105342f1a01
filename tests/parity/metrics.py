"""metrics.json: scores of random and degenerate predictions from scikit-learn and SciPy."""

import math
import warnings

import numpy as np
from scipy import stats
from sklearn import metrics as sk

from files import f32, rng, write_json


def write(out, seed):
    random = rng(seed, "metrics")
    write_json(
        out / "metrics.json",
        {
            "seed": seed,
            "classification": [_classification(*case) for case in _classification_cases(random)],
            "regression": [_regression(*case) for case in _regression_cases(random)],
            "argmax": _argmax_cases(random),
        },
    )


def _classification(name, labels, predictions, golds):
    case = {"name": name, "labels": labels, "predictions": list(predictions), "golds": list(golds)}
    if not golds:
        case |= {"accuracy": None, "matthews": None}
    else:
        case["accuracy"] = float(sk.accuracy_score(golds, predictions))
        case["matthews"] = _quietly(lambda: sk.matthews_corrcoef(golds, predictions))
    if labels == 2:
        f1 = lambda: sk.f1_score(golds, predictions, pos_label=1, average="binary", zero_division=0)
        case["f1"] = _quietly(f1) if golds else None
    return case


def _classification_cases(random):
    yield "no rows", 2, [], []
    yield "one right row", 2, [1], [1]
    yield "one wrong row", 2, [0], [1]
    yield "all right", 2, [0, 1, 1, 0, 1], [0, 1, 1, 0, 1]
    yield "all wrong", 2, [1, 0, 0, 1, 0], [0, 1, 1, 0, 1]
    yield "predictions constant 0", 2, [0] * 6, [0, 1, 1, 0, 1, 0]
    yield "predictions constant 1", 2, [1] * 6, [0, 1, 1, 0, 1, 0]
    yield "golds constant 0", 2, [0, 1, 1, 0, 1, 0], [0] * 6
    yield "golds constant 1", 2, [0, 1, 1, 0, 1, 0], [1] * 6
    yield "both constant and equal 0", 2, [0] * 4, [0] * 4
    yield "both constant and equal 1", 2, [1] * 4, [1] * 4
    yield "both constant and different", 2, [0] * 4, [1] * 4
    yield "no relation at all", 2, [0, 0, 1, 1], [0, 1, 0, 1]
    yield "three labels, constant predictions", 3, [2] * 5, [0, 1, 2, 1, 0]
    yield "three labels, one never appears", 3, [0, 2, 2, 0], [0, 2, 0, 0]
    for labels in (2, 2, 2, 3, 5):
        for rows in (2, 7, 60, 400):
            skew = random.dirichlet(np.full(labels, 2.0))
            golds = random.choice(labels, rows, p=skew)
            noise = random.random(rows) < random.random()
            predictions = np.where(noise, random.integers(0, labels, rows), golds)
            yield f"random, {labels} labels, {rows} rows", labels, predictions.tolist(), golds.tolist()


def _regression(name, predictions, golds):
    predictions, golds = f32(predictions), f32(golds)
    case = {"name": name, "predictions": predictions, "golds": golds}
    if len(golds) < 2:
        case |= {"pearson": None, "spearman": None}
    else:
        case["pearson"] = _quietly(lambda: stats.pearsonr(predictions, golds).statistic)
        case["spearman"] = _quietly(lambda: stats.spearmanr(predictions, golds).statistic)
    case["mse"] = float(sk.mean_squared_error(golds, predictions)) if golds else None
    return case


def _regression_cases(random):
    yield "no rows", [], []
    yield "one row", [0.5], [0.25]
    yield "two rows, same order", [0.1, 0.9], [0.0, 1.0]
    yield "two rows, opposite order", [0.9, 0.1], [0.0, 1.0]
    yield "equal", [0.0, 0.25, 0.5, 1.0], [0.0, 0.25, 0.5, 1.0]
    yield "monotone but not linear", [0.0, 0.1, 0.2, 0.3], [0.0, 0.01, 0.1, 1.0]
    yield "constant predictions", [0.5] * 5, [0.0, 0.2, 0.4, 0.6, 1.0]
    yield "constant golds", [0.0, 0.2, 0.4, 0.6, 1.0], [0.5] * 5
    yield "both constant", [0.5] * 3, [0.25] * 3
    yield "ties in both", [1.0, 1.0, 2.0, 2.0, 3.0, 3.0], [2.0, 1.0, 1.0, 2.0, 2.0, 3.0]
    yield "ties across the ends", [0.0, 0.0, 0.0, 1.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    yield "far outside the scale", [-40.0, 12.5, 3.0, 1000.0], [0.0, 0.5, 0.25, 1.0]
    for rows in (3, 10, 100, 500):
        golds = random.random(rows)
        predictions = golds + random.normal(0, random.choice([0.05, 0.5]), rows)
        yield f"random, {rows} rows", predictions, golds
        # STS-B's own scale has steps, so its golds tie.
        yield f"random with ties, {rows} rows", np.round(predictions, 1), np.round(golds * 5) / 5


def _argmax_cases(random):
    rows = [[0.0, 0.0], [1.0, 1.0, 1.0], [-1.0, 2.0, 2.0], [-3.0, -2.0, -2.5], [0.0, -0.0], [1e30, 1e30, -1e30]]
    rows += [np.round(random.normal(0, 1, 3), 1).tolist() for _ in range(20)]
    return [{"logits": f32(row), "label": int(np.argmax(f32(row)))} for row in rows]


def _quietly(score):
    """The peer's value without its warnings; None where it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = float(score())
    return None if math.isnan(value) else value
