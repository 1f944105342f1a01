#!/usr/bin/env python3
"""Writes the golden files that the trainer's parity tests read. README.md says what each holds and whom it comes from."""

import argparse
import importlib
import shutil
import time
from pathlib import Path

GOLDEN = Path(__file__).resolve().parents[2] / "trainer" / "tests" / "golden"
FIXED_SEED = 20190710
# Each writes the files that README.md lists under its name, from draws of its own.
MODULES = ("metrics", "distill", "optimizer", "tokenizer", "truncation", "encoder")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=FIXED_SEED, help="default: that of the committed files")
    parser.add_argument("--out", type=Path, default=GOLDEN, help="folder to write to; default: trainer/tests/golden")
    parser.add_argument("--only", choices=MODULES, action="append", help="this module only; may be repeated")
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    if options.out.resolve() != GOLDEN:
        shutil.copy(GOLDEN / "vocab.txt", options.out / "vocab.txt")
    for name in options.only or MODULES:
        start = time.monotonic()
        importlib.import_module(name).write(options.out, options.seed)
        print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
