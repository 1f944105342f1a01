"""truncation.json: how pairs are cut and laid out, from the description, beside transformers' `longest_first`.

While a and b are together longer than max_seq_length - 3, the longer one loses its last piece; on a tie, b does. A single text is cut
to max_seq_length - 2. Layout: [CLS] a [SEP] in segment 0, b [SEP] in segment 1 if b has pieces, then zeros.
"""

import transformers
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from files import rng, write_json

# (a, b, a + b at most) -> kept, from runs of the reference's own rule.
KNOWN = {
    (10, 10, 15): (8, 7),
    (100, 60, 125): (65, 60),
    (60, 100, 125): (60, 65),
    (200, 5, 125): (120, 5),
    (200, 200, 125): (63, 62),
}
# (a, b, max_seq_length)
LAYOUTS = [(5, 0, 8), (6, 0, 8), (7, 0, 8), (0, 0, 4), (2, 3, 8), (3, 3, 8), (9, 9, 8), (1, 9, 9), (9, 1, 9)]
LAYOUTS += [(4, 2, 16), (0, 4, 9), (30, 40, 32)]


def kept(a, b, limit):
    while a + b > limit:
        if a > b:
            a -= 1
        else:
            b -= 1
    return a, b


def write(out, seed):
    random = rng(seed, "truncation")
    transformers.logging.set_verbosity_error()
    peer = BertTokenizerLegacy(str(out / "vocab.txt"))
    for (a, b, limit), expected in KNOWN.items():
        assert kept(a, b, limit) == expected, (a, b, limit)
    write_json(
        out / "truncation.json",
        {
            "seed": seed,
            "pairs": [_pair(peer, *case) for case in _pair_cases(random)],
            "singles": [_single(peer, *case) for case in _single_cases(random)],
            "layouts": [_layout(peer, random, *case) for case in LAYOUTS],
        },
    )


def _pair_cases(random):
    for a, b, limit in KNOWN:
        yield a, b, limit + 3
    # Every way that two short texts meet a short limit.
    yield from ((a, b, limit + 3) for a in range(1, 6) for b in range(1, 6) for limit in range(1, 7))
    for _ in range(60):
        a, b = (int(n) for n in random.integers(1, 600, 2))
        yield a, b, int(random.choice([8, 32, 64, 127, 128, 512]))


def _single_cases(random):
    yield from ((a, limit) for a in (0, 1, 2, 3, 4, 126, 127, 128, 600) for limit in (3, 4, 128))
    yield from ((int(random.integers(0, 600)), int(random.integers(3, 513))) for _ in range(20))


def _pair(peer, a, b, max_seq_length):
    kept_a, kept_b = kept(a, b, max_seq_length - 3)
    peer_a, peer_b, _ = peer.truncate_sequences([1] * a, [1] * b, a + b + 3 - max_seq_length)
    assert (len(peer_a), len(peer_b)) == (kept_a, kept_b), (a, b, max_seq_length)
    return {"a": a, "b": b, "max_seq_length": max_seq_length, "kept_a": kept_a, "kept_b": kept_b}


def _single(peer, a, max_seq_length):
    kept_a = min(a, max_seq_length - 2)
    peer_a, _, _ = peer.truncate_sequences([1] * a, None, a + 2 - max_seq_length)
    assert len(peer_a) == kept_a, (a, max_seq_length)
    return {"a": a, "max_seq_length": max_seq_length, "kept_a": kept_a}


def _layout(peer, random, a, b, max_seq_length):
    first, last = peer.mask_token_id + 1, len(peer.vocab)
    ids = [[int(piece) for piece in random.integers(first, last, count)] for count in (a, b)]
    # The peer would give an empty b a [SEP] of its own; BAM takes such an example as a single text.
    pair = ids[1] or None
    features = peer.prepare_for_model(
        ids[0],
        pair,
        truncation="longest_first",
        max_length=max_seq_length,
        padding="max_length",
        return_token_type_ids=True,
    )
    layout = {
        "a": ids[0],
        "b": pair,
        "max_seq_length": max_seq_length,
        "input_ids": features["input_ids"],
        "input_mask": features["attention_mask"],
        "segment_ids": features["token_type_ids"],
    }
    _check_layout(peer, layout)
    return layout


def _check_layout(peer, layout):
    a, b, length = layout["a"], layout["b"], layout["max_seq_length"]
    if b:
        kept_a, kept_b = kept(len(a), len(b), length - 3)
        segments = [[peer.cls_token_id, *a[:kept_a], peer.sep_token_id], [*b[:kept_b], peer.sep_token_id]]
    else:
        segments = [[peer.cls_token_id, *a[: length - 2], peer.sep_token_id], []]
    used = len(segments[0]) + len(segments[1])
    padding = [0] * (length - used)
    assert layout["input_ids"] == segments[0] + segments[1] + padding
    assert layout["input_mask"] == [1] * used + padding
    assert layout["segment_ids"] == [0] * len(segments[0]) + [1] * len(segments[1]) + padding
