"""tokenizer.json, tokenizer_generated.json: transformers' tokenizer with BERT's rules in Python, beside `reference_tokenizer`.

The peer departs from the reference on purpose in three ways. Each difference must be explained by them: with the departures that
its reason names switched off, the peer has to give the reference's answer. A difference that they do not explain stops the generator.
The generated texts also go through transformers' fast tokenizer, in Rust, whose departures cannot be switched off: where it
differs is only noted.
"""

import itertools
import unicodedata
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from unittest import mock

import transformers
from transformers.models.bert import tokenization_bert_legacy as peer_module

import awkward
import reference_tokenizer
from files import rng, write_json

RANDOM_TEXTS = 160
GENERATED_TEXTS = 10_000
REASONS = {
    "special": "the peer protects literal special tokens",
    "long": "the peer takes words of more than 100 characters as [UNK]",
    "nfc": "the peer normalises to NFC first",
}


def write(out, seed):
    path = out / "vocab.txt"
    vocabulary = reference_tokenizer.read_vocabulary(path)
    peers = {lower: peer_module.BertTokenizerLegacy(str(path), do_lower_case=lower) for lower in (True, False)}
    texts = awkward.CHOSEN + list(awkward.random_texts(rng(seed, "tokenizer"), RANDOM_TEXTS, list(vocabulary)))
    cases = [_case(text, lower, vocabulary, peers[lower]) for text in texts for lower in (True, False)]
    name = f"transformers {transformers.__version__} BertTokenizerLegacy"
    write_json(out / "tokenizer.json", {"seed": seed, "vocab": path.name, "peer": name, "cases": cases})
    differing = [case["reason"] for case in cases if "reason" in case]
    print(f"tokenizer: {len(cases)} cases, the peer differs on {len(differing)}:")
    for reason in sorted(set(differing)):
        print(f"  {differing.count(reason):4} {reason}")


    _write_generated(out, seed, vocabulary, peers)


def _write_generated(out, seed, vocabulary, peers):
    """Ids alone: with the pieces and the peers' the file would be three times as large."""
    path = out / "vocab.txt"
    fast = {lower: transformers.BertTokenizer(vocab=str(path), do_lower_case=lower) for lower in (True, False)}
    texts = awkward.generated_texts(rng(seed, "tokenizer/generated"), GENERATED_TEXTS, list(vocabulary))
    cases = []
    for number, (kind, text) in enumerate(texts):
        lower = number // 8 % 2 == 0
        slow = _case(text, lower, vocabulary, peers[lower])
        case = {"kind": kind, "text": text, "lower": lower, "ids": slow["ids"]}
        if "reason" in slow:
            case["slow"] = slow["reason"]
        if fast[lower].tokenize(text) != slow["pieces"]:
            case["fast"] = "differs"
        cases.append(case)
    name = f"transformers {transformers.__version__} BertTokenizerLegacy (slow), BertTokenizer (fast)"
    write_json(out / "tokenizer_generated.json", {"seed": seed, "vocab": path.name, "peer": name, "cases": cases})
    differing = {peer: sum(peer in case for case in cases) for peer in ("slow", "fast")}
    print(f"tokenizer: {len(cases)} generated texts, the slow peer differs on {differing['slow']}, the fast one on {differing['fast']}")


def _case(text, lower, vocabulary, peer):
    pieces = reference_tokenizer.tokenize(text, vocabulary, lower)
    case = {"text": text, "lower": lower, "pieces": pieces, "ids": [vocabulary[piece] for piece in pieces]}
    peer_pieces = peer.tokenize(text)
    if peer_pieces != pieces:
        case |= {"peer_pieces": peer_pieces, "reason": _reason(text, pieces, peer)}
    elif _peer_pieces_without(REASONS, text, peer) != pieces:
        raise AssertionError(f"agrees only by its departures: {text!r}, lower {lower}")
    return case


def _reason(text, expected, peer):
    """The fewest departures that explain the difference."""
    for count in range(1, len(REASONS) + 1):
        for departures in itertools.combinations(REASONS, count):
            if _peer_pieces_without(departures, text, peer) == expected:
                return "; ".join(REASONS[departure] for departure in departures)
    strict = _peer_pieces_without(REASONS, text, peer)
    raise AssertionError(f"unexplained difference on {text!r}: the peer gives {strict}, the reference {expected}")


def _peer_pieces_without(departures, text, peer):
    with ExitStack() as stack:
        if "nfc" in departures:
            stack.enter_context(_no_nfc())
        if "long" in departures:
            limit = reference_tokenizer.LONGEST_WORD
            stack.enter_context(mock.patch.object(peer.wordpiece_tokenizer, "max_input_chars_per_word", limit))
        if "special" in departures:
            return peer._tokenize(text, split_special_tokens=True)
        return peer.tokenize(text)


@contextmanager
def _no_nfc():
    normalize = lambda form, text: text if form == "NFC" else unicodedata.normalize(form, text)
    with mock.patch.object(peer_module, "unicodedata", SimpleNamespace(normalize=normalize, category=unicodedata.category)):
        yield
