"""distill.json: the annealed distillation loss (BAM, section 3) in float64 NumPy, from its formulas.

Classification: target = lambda * onehot(gold) + (1 - lambda) * softmax(teacher); loss = -sum(target * log_softmax(student)).
Regression: target = lambda * label / label_max + (1 - lambda) * teacher; loss = (student - target)^2.
lambda = step / total_steps with annealing, else 1 - distill_weight.

At a temperature T other than 1 it is torch's cross_entropy, float64, that says: lambda * CE(student, gold) +
(1 - lambda) * T^2 * CE(student / T, softmax(teacher / T)), with autograd's gradient.
"""

import numpy as np
import torch
from scipy.special import log_softmax, softmax
from torch.nn.functional import cross_entropy

from files import f32, rng, write_json


def gold_weight(annealing, distill_weight, step, total_steps):
    return step / total_steps if annealing else 1.0 - distill_weight


def classification_loss(teacher, student, label, gold):
    target = (1.0 - gold) * softmax(teacher)
    target[label] += gold
    loss = -np.dot(target, log_softmax(student))
    return float(loss), (softmax(student) - target).tolist()


def softened_loss(teacher, student, label, gold, temperature):
    teacher = torch.tensor(teacher, dtype=torch.float64)
    student = torch.tensor(student, dtype=torch.float64, requires_grad=True)
    soft = cross_entropy(student / temperature, torch.softmax(teacher / temperature, dim=0))
    loss = gold * cross_entropy(student, torch.tensor(label)) + (1.0 - gold) * temperature**2 * soft
    loss.backward()
    return loss.item(), student.grad.tolist()


def regression_loss(teacher, student, label, label_max, gold):
    target = gold * (label / label_max) + (1.0 - gold) * teacher
    return float((student - target) ** 2), float(2.0 * (student - target))


# Numbers known from runs of the reference's own formulas.
KNOWN_LOGITS = ([2.0, 0.0, -1.0], [0.5, 0.2, -0.3], 2)
KNOWN_CLASSIFICATION = [
    (0.0, 0.8518353619634549),
    (0.25, 1.0348687087827972),
    (0.5, 1.2179020556021394),
    (1.0, 1.5839687492408239),
    (gold_weight(False, 0.3, 0, 1), 1.3643287330576133),
]
KNOWN_REGRESSION = [(0.0, 0.04), (0.25, 0.034225), (1.0, 0.0196)]


def write(out, seed):
    random = rng(seed, "distill")
    lambdas = list(_lambdas(random))
    golds = [0.0, 1.0, 0.5] + [case["lambda"] for case in lambdas]
    write_json(
        out / "distill.json",
        {
            "seed": seed,
            "lambdas": lambdas,
            "classification": list(_known_classification()) + list(_classification(random, golds)),
            "regression": list(_known_regression()) + list(_regression(random, golds)),
            "softened": list(_softened(rng(seed, "distill softened"))),
        },
    )


def _lambdas(random):
    cases = [(True, 0.5, 0, 15), (True, 0.5, 14, 15), (True, 0.9, 117, 234), (False, 0.5, 3, 15), (False, 0.3, 0, 1)]
    cases += [(False, 0.0, 9, 10), (False, 1.0, 9, 10)]
    for _ in range(8):
        total = int(random.integers(1, 60000))
        cases.append((bool(random.random() < 0.7), float(np.round(random.random(), 2)), int(random.integers(0, total)), total))
    for annealing, distill_weight, step, total in cases:
        yield {
            "annealing": annealing,
            "distill_weight": distill_weight,
            "step": step,
            "total_steps": total,
            "lambda": gold_weight(annealing, distill_weight, step, total),
        }


def _classification_case(teacher, student, label, gold):
    teacher, student = f32(teacher), f32(student)
    loss, gradient = classification_loss(np.array(teacher), np.array(student), label, gold)
    return {"teacher": teacher, "student": student, "label": label, "lambda": gold, "loss": loss, "gradient": gradient}


def _known_classification():
    teacher, student, label = KNOWN_LOGITS
    for gold, expected in KNOWN_CLASSIFICATION:
        loss, _ = classification_loss(np.array(teacher), np.array(student), label, gold)
        assert abs(loss - expected) < 1e-14, (gold, loss, expected)
        yield _classification_case(teacher, student, label, gold)


def _classification(random, golds):
    for scale in (0.1, 1.0, 5.0, 60.0):
        for gold in golds:
            labels = int(random.integers(2, 7))
            teacher, student = random.normal(0, scale, (2, labels))
            yield _classification_case(teacher, student, int(random.integers(0, labels)), gold)
    # Nothing may overflow, and a certain teacher must not make 0 * -inf.
    yield _classification_case([1000.0, -1000.0], [-50.0, 50.0], 1, 0.25)
    yield _classification_case([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], 0, 0.75)


def _softened(random):
    for temperature in (0.1, 0.5, 1.0, 2.0, 5.0, 100.0):
        for gold in (0.0, 0.25, float(random.random()), 1.0):
            labels = int(random.integers(2, 7))
            teacher, student = (f32(logits) for logits in random.normal(0, 3.0, (2, labels)))
            label = int(random.integers(0, labels))
            loss, gradient = softened_loss(teacher, student, label, gold, temperature)
            if temperature == 1.0:
                plain, _ = classification_loss(np.array(teacher), np.array(student), label, gold)
                assert abs(loss - plain) < 1e-12, (loss, plain)
            case = {"teacher": teacher, "student": student, "label": label, "lambda": gold, "temperature": temperature}
            yield case | {"loss": loss, "gradient": gradient}


def _regression_case(teacher, student, label, label_max, gold):
    teacher, student, label = f32(teacher), f32(student), f32(label)
    loss, gradient = regression_loss(teacher, student, label, label_max, gold)
    case = {"teacher": teacher, "student": student, "label": label, "label_max": label_max}
    return case | {"lambda": gold, "loss": loss, "gradient": gradient}


def _known_regression():
    for gold, expected in KNOWN_REGRESSION:
        loss, _ = regression_loss(0.70, 0.9, 3.8, 5.0, gold)
        assert abs(loss - expected) < 1e-14, (gold, loss, expected)
        yield _regression_case(0.70, 0.9, 3.8, 5.0, gold)


def _regression(random, golds):
    for label_max in (5.0, 1.0):
        for gold in golds:
            label = random.choice([0.0, label_max, random.random() * label_max])
            yield _regression_case(random.normal(0.5, 0.3), random.normal(0.5, 0.5), label, label_max, gold)
