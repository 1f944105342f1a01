"""The tokenizer of the released BERT as of November 2018, which is BAM's: written from its description, not from its code.

1. Drop U+0000, U+FFFD and every character whose category starts with C, except tab, LF and CR; these three and category Zs become a space.
2. Put a space on each side of every CJK ideograph.
3. Split on Unicode whitespace.
4. If lower-casing: lower case, NFD, then drop category Mn.
5. Every punctuation character is a token of its own.
6. WordPiece: longest match first, "##" before pieces that continue a word. A word of more than 200 characters, or one that does
   not divide into pieces, is [UNK].

There is no normalisation without lower-casing, and "[SEP]" in a text is three tokens like any other text in brackets.
"""

import unicodedata

UNKNOWN = "[UNK]"
LONGEST_WORD = 200
CJK = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
ASCII_PUNCTUATION = ((33, 47), (58, 64), (91, 96), (123, 126))


def read_vocabulary(path):
    """Piece -> line number; a piece that stands twice has the later one."""
    text = path.read_text(encoding="utf-8")
    return {line.strip(): number for number, line in enumerate(text.removesuffix("\n").split("\n"))}


def tokenize(text, vocabulary, lower):
    return [piece for word in words(text, lower) for piece in word_pieces(word, vocabulary)]


def words(text, lower):
    spaced = "".join(_clean(character) for character in text)
    found = []
    for token in spaced.split():
        if lower:
            decomposed = unicodedata.normalize("NFD", token.lower())
            token = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
        apart = "".join(f" {c} " if _is_punctuation(c) else c for c in token)
        found.extend(apart.split())
    return found


def word_pieces(word, vocabulary):
    if len(word) > LONGEST_WORD:
        return [UNKNOWN]
    pieces, start = [], 0
    while start < len(word):
        prefix = "##" if start else ""
        ends = range(len(word), start, -1)
        end = next((end for end in ends if prefix + word[start:end] in vocabulary), None)
        if end is None:
            return [UNKNOWN]
        pieces.append(prefix + word[start:end])
        start = end
    return pieces


def _clean(character):
    category = unicodedata.category(character)
    if character in "\t\n\r" or category == "Zs":
        return " "
    if character == "\ufffd" or category.startswith("C"):
        return ""
    return f" {character} " if _within(character, CJK) else character


def _is_punctuation(character):
    return _within(character, ASCII_PUNCTUATION) or unicodedata.category(character).startswith("P")


def _within(character, ranges):
    return any(first <= ord(character) <= last for first, last in ranges)
