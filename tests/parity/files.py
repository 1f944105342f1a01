"""Writes golden files so that equal content gives equal bytes."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save


def rng(seed, purpose):
    """A generator of its own for each purpose, so that one module's draws do not move another's."""
    return np.random.default_rng([seed, *purpose.encode()])


def f32(value):
    """Rounds to float32 and returns plain float64 (nested) lists: exact in both widths."""
    return np.asarray(value, dtype=np.float32).astype(np.float64).tolist()


def write_json(path, content):
    """One case a line, so that a diff shows the case."""
    entries = []
    for key, value in content.items():
        if isinstance(value, list):
            lines = ",\n".join("  " + _line(case) for case in value)
            text = f"[\n{lines}\n ]"
        else:
            text = _line(value)
        entries.append(f" {_line(key)}: {text}")
    Path(path).write_text("{\n" + ",\n".join(entries) + "\n}\n", encoding="ascii")
    if json.loads(Path(path).read_text(encoding="ascii")) != content:
        raise AssertionError(f"{path} does not read back as it was written")


def _line(value):
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(", ", ": "))


def write_tensors(path, tensors, config):
    """`config` is the one metadata key: with several, their order in the file would be random."""
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    for name, value in tensors.items():
        if value.dtype not in (np.float32, np.float64, np.int64):
            raise TypeError(f"{name} is {value.dtype}")
        if not np.isfinite(value).all():
            raise ValueError(f"{name} is not finite")
    Path(path).write_bytes(save(tensors, metadata={"config": json.dumps(config)}))
    back = load_file(str(path))
    if back.keys() != tensors.keys() or any(not np.array_equal(back[n], tensors[n]) for n in tensors):
        raise AssertionError(f"{path} does not read back as it was written")
