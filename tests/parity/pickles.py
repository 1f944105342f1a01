#!/usr/bin/env python
"""trainer/tests/golden/pickles: predictions as the reference pickles them, written by CPython and NumPy of its days and of ours.

    pickles.py NAME [FOLDER]     NAME_{logits,scores}.pkl, for the Python and NumPy that run this

It stands beside generate.py and not in it, since it has to run under Python 2.7 too. README.md lists what the committed files were
made with. TensorFlow's estimators hand out rows of a batch: views of an array, and NumPy's scalars as ids.
"""

import os
import pickle
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "..", "trainer", "tests", "golden", "pickles")


def write(name, folder):
    ids = np.array([0, 300, 70000], dtype=np.int32)
    logits = np.array([[1.5, -2.0, 0.25], [3.0, -0.5, 8.0], [1e-8, 1e30, -7.0]], dtype=np.float32)
    scores = np.array([0.75, -0.125, 3e-5], dtype=np.float32)
    files = {
        "logits": {ids[row]: logits[row] for row in range(3)},
        "scores": {int(ids[row]): scores[row] for row in range(3)},
    }
    for kind, content in sorted(files.items()):
        with open(os.path.join(folder, "{}_{}.pkl".format(name, kind)), "wb") as file:
            pickle.dump(content, file, -1)


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else GOLDEN)
