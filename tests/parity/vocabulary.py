#!/usr/bin/env python3
"""Makes trainer/tests/golden/vocab.txt from bert-base-uncased's vocab.txt. By hand, seldom: all goldens of the tokenizer hang on it.

    vocabulary.py FULL_VOCAB_TXT
"""

import sys
import unicodedata
from pathlib import Path

import awkward
import reference_tokenizer
from generate import GOLDEN

# [PAD], the unused ones, [UNK], [CLS], [SEP], [MASK]: kept in place, so that their ids are the usual ones.
FIRST = 104
SIZE = 2760
# The full vocabulary is lower-cased and without accents; these make a difference visible where it would be [UNK] on both sides.
CASED = (
    "The Hello World Mc Donald NASA Str Stra Caf caf é è ï ö ü ñ ç Å É À İ ẞ Ω Σ Α ΑΣ ς ά Ø Đ "
    "\u0301 \u0300 \u0308 \u0307 \u0323 \u0327 \u0302 \u030a \u0303 \ufe0f \ufe0e \u20e3 \u034f \u3099 "
    "\u2126 \u212a \u212b \uf900 \u8c48 \U0002f800 \u4e3d \U00020000 \u037e \u0387 \u1fef \u2329 \u3008 \u0958 \u093c "
    "한 국 어 글 ガ ｶ 😀 👍 🏽 ❤ 👩 💻 ्  ิ ํ ำ ् ّ َ ֑ ִ ﬃ Ａ ｂ Ⅷ ⅷ 𐐀 𐐨 ＳＥＰ Ǆ ǅ ǆ Ꮿ ꮿ ₿ \ufffc"
).split()


def main():
    full = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    kept = dict.fromkeys(full[:FIRST])
    kept |= dict.fromkeys(piece for piece in full if len(piece.removeprefix("##")) == 1)
    ids = {piece: number for number, piece in enumerate(full)}
    for text in awkward.CHOSEN + awkward.WORDS:
        for lower in (True, False):
            kept |= dict.fromkeys(reference_tokenizer.tokenize(text, ids, lower))
    for piece in full[FIRST:]:
        if len(kept) >= SIZE:
            break
        if not piece.startswith("[unused"):
            kept[piece] = None
    pieces = sorted(kept, key=ids.get)
    letters = [chr(c) for c in range(ord("A"), ord("Z") + 1)]
    for piece in letters + CASED:
        pieces += [new for new in (piece, f"##{piece}") if new not in kept and new not in pieces]
    assert all(piece == piece.strip() and piece for piece in pieces) and len(set(pieces)) == len(pieces)
    (GOLDEN / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8", newline="\n")
    print(f"{len(pieces)} pieces, Unicode {unicodedata.unidata_version}")


if __name__ == "__main__":
    main()
