"""Texts on which tokenizers go apart: chosen ones, and random ones built from the same materials.

No code point here was assigned after Unicode 14, so that the answers do not depend on whose Unicode tables are newer.
The unassigned ones are noncharacters, or gaps that have stayed empty.
"""

import unicodedata

ACUTE, GRAVE, DIAERESIS, TILDE, RING, CEDILLA = "\u0301", "\u0300", "\u0308", "\u0303", "\u030a", "\u0327"
ZWJ, ZWNJ, ZWSP, VS15, VS16 = "\u200d", "\u200c", "\u200b", "\ufe0e", "\ufe0f"
SPACES = (
    "\t\n\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f"
    "\u3000"
)
# Not spaces by their category, though some libraries take them so: controls, and format characters of no width.
NOT_SPACES = "\x0b\x0c\x1c\x1d\x1e\x1f\x85\u180e\u200b\u2060\ufeff"
CONTROLS = "\x00\x01\x07\x08\x0b\x0c\x0e\x1b\x1f\x7f\x80\x85\x9f"
FORMATS = (
    "\u00ad\u0600\u061c\u06dd\u070f\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202e\u2060\u2066\u2069\u206f\ufeff"
    "\ufff9\U000110bd\U0001d173\U000e0001\U000e0067"
)
PRIVATE = "\ue000\uf8ff\U000f0000\U0010fffd"
UNASSIGNED = "\u0378\u0379\u0380\u0530\ufdd0\ufffe\uffff\U0001fffe\U000e0080\U0010ffff"
PUNCTUATION = (
    "!\"#%&'()*,-./:;?@[\\]_{}¡§«¶·»¿\u037e\u0387\u055a\u05be\u05f3\u060c\u061b\u066a\u06d4\u0964\u0e4f\u0f3a\u104a"
    "\u10fb\u1400\u169b\u17d4\u1806‐–—―‖‘’‚“”„†•…‰′‹›‿⁀⁅\u2e3a\u2e4f\u3001\u3003〈〉《》「」〜〰\u30fb\ua4fe\ua876\ufd3e"
    "\ufe10\ufe30\ufe58\uff01\uff08\uff3f\uff5e\U00010100\U00011047\U0001da87\U0001e95e"
)
# Symbols that are punctuation in ASCII alone: "$" splits, "€" does not.
SYMBOLS = "$+<=>^`|~¢£¤¥¦¨©¬®¯°±´¸×÷€₿℃№™←∂∑−∞≠⊕⌘─■☆♥✓⟨⟩⺀〒\ufffc"
CJK_EDGES = (
    "\u33ff\u3400\u4dbf\u4dc0\u4dff\u4e00\u9fff\ua000\uf8ff\uf900\ufaff\ufb00\U0001ffff\U00020000\U0002a6df\U0002a6e0"
    "\U0002a700\U0002b734\U0002b740\U0002b81d\U0002b820\U0002cea1\U0002ceb0\U0002ebe0\U0002f800\U0002fa1d\U00030000"
    "\U0003134a"
)
EMOJI = [
    "😀", "❤" + VS16, "❤" + VS15, "👩" + ZWJ + "💻", "👨" + ZWJ + "👩" + ZWJ + "👧", "👍🏽", "🇩🇪", "1" + VS16 + "\u20e3",
    "🏴" + "\U000e0067\U000e0062\U000e007f", "🫠", "🥲",
]
WORDS = [
    "the", "of", "unaffable", "tokenization", "running", "hello", "world", "don't", "u.s.", "3.14", "1,000", "km²",
    "co₂", "x", "I", "The", "NASA", "McDonald", "iPhone", "well-known", "naïve", "café", "Straße", "Ångström",
    "co\u0308operate", "日本", "東京tower", "한국어", "हिन्दी", "ภาษาไทย", "Ελλάδας", "Москва", "עברית", "عربي",
]

CHOSEN = [
    "", " ", "   ", "\t\n\r", "\u3000\u00a0", ZWSP, "\ufeff", "\x00", "\ufffd", "\x00\ufffd\ufeff", "hello world",
    "Hello, World!", "The quick brown fox jumps over the lazy dog.", "unaffable", "UNAFFABLE unwanted running",
    "  leading and trailing  ", "double  spaces\tand\ttabs", "line one\nline two\r\nline three\rline four",
    # Special tokens in text have no protection.
    "[SEP]", "[CLS] hello [SEP] world [SEP]", "a[SEP]b", "[MASK]ing", "[PAD] [UNK]", "[sep]", "[ SEP ]", "[unused5]",
    "[SEP]\u0301", "##ing", "## ing", "[UN\u200bK]",
    # Accents: composed, decomposed, stacked, alone, in the wrong order.
    "café", "cafe" + ACUTE, "CAFÉ", "CAFE" + ACUTE, "naïve", "nai" + DIAERESIS + "ve", "résumé Ré", "e" + ACUTE * 5,
    ACUTE, ACUTE + "a", " " + ACUTE + " a", "a" + ACUTE + " " + ACUTE,
    "Z" + "".join(chr(0x300 + i) for i in range(40)) + "algo", "q" + "\u0323\u0307", "q" + "\u0307\u0323", "ệ",
    "e\u0323\u0302", "e\u0302\u0323", "o\u0328\u0304", "Ångström", "A" + RING + "ngstro" + DIAERESIS + "m",
    "\u212bngstrom", "façade", "fac" + CEDILLA + "ade", "señor SEN" + TILDE + "OR", "ÀÉÎÕÜ àéîõü", "Łódź łodz",
    "ĐđØøĦħ", "ǅ ǆ Ǆ", "ŉ ǰ", "!" + ACUTE, "." + ACUTE + ".", "[" + GRAVE + "SEP]",
    # Case: Turkish, German, Greek, titlecase, no lower case at all, lower case that is longer.
    "İstanbul", "ISTANBUL ıstanbul", "I" + "\u0307" + "stanbul", "İİİ", "iİıI", "Straße STRASSE", "STRAẞE", "ß ẞ SS",
    "ΑΣ", "ΑΣ ΣΑ", "ΣΑΣ", "Σ", "ΟΔΟΣ.", "ΟΔΟΣ" + ACUTE + " x", "ΑΣ'Α", "ΑΣ" + ZWJ + "Α", "ς σ Σ", "Ελλάδας ΕΛΛΆΔΑΣ",
    "ὈΔΥΣΣΕΎΣ", "ᾳ ᾼ ῼ ΑΙ", "ﬁ ﬂ ﬃ ﬁnd", "ĲSSEL ĳ", "Ⅷ ⅷ Ⓐ ⓐ", "Ꮳ ꮳ Ა ა", "𝐇𝐞𝐥𝐥𝐨 𝒽", "Ａｂｃ ＡＢＣ １２３", "𐐀𐐨", "ſ ẛ ᵃ ª º",
    # Letters whose canonical form is another letter (an NFC step would change them).
    "\u2126 Ω", "\u212a K", "\u212b Å", "\u1f71 ά", "\u0340\u0341\u0343\u0344", "\u0374 \u037e \u0387",
    "\u1fef ` \u1ffd", "\u2000\u2001", "\u2329x\u232a", "\uf900 \u8c48", "\uf951a\ufa0e", "\U0002f800 \u4e3d",
    "\u0958 \u0915\u093c", "\u09dc \u0929 \u0931", "\u0f43 \u0f42\u0fb7", "\ufb1d \u05d9\u05b4", "\ufb2a \ufb4b",
    "\U0001d15e \U0001d1bb", "\u2adc", "\u0fb2\u0f71\u0f80",
    # CJK: every block's edges are in the random material; here in words.
    "日本語", "東京都に行く", "abc中文def", "中文,标点。", "中" + ACUTE + "文", "中" + VS16 + "文", "𠀀𠀁 𪜀 𫝀 𫠠", "\U0002ebe0\U00030000",
    "カタカナ ガ カ\u3099 ｶﾞ", "ひらがな", "全角　空白", "㍿ ㈱ ㋿", "〇 々 〆 〻", "⼀ ⺩ ⽥", "한국어", "\u1112\u1161\u11ab\u1100\u116e\u11a8",
    "한글 HAN글", "ㅎㅏㄴ", "꼟 뷁", "ภาษาไทย", "เก่ง ก\u0e33 น้ำ", "ກຳ", "हिन्दी", "क्षत्रिय", "नमस्ते दुनिया।",
    "बंगाल বাংলা", "தமிழ் தொ \u0ba4\u0bc6\u0bbe", "മലയാളം ൺ", "ಕನ್ನಡ ೊ", "සිංහල", "မြန်မာ", "བོད་ཡིག",
    "ქართული ᲥᲐᲠᲗᲣᲚᲘ", "Հայերեն ԵՒ և", "עִבְרִית", "العَرَبِيَّة", "فارسی می" + ZWNJ + "خواهم", "لا \ufefb \ufdfa",
    "Монгол \u1828\u180b\u180e", "ᚠᚢᚦ", "ትግርኛ።", "ⵜⵉⴼⵉⵏⴰⵖ", "ߒߞߏ", "𒀀 𓀀 𐌰",
    # Invisible characters inside and between words.
    "hel" + ZWJ + "lo", "hel" + ZWNJ + "lo", "hel" + ZWSP + "lo wor" + ZWSP + "ld", "soft\u00adhyphen", "\ufeffbom",
    "word\u2060joiner", "\u202eright to left\u202c", "\u2066isolate\u2069", "a\x00b", "a\ufffdb", "a\x0bb\x0cc",
    "a\x1cb\x1db\x1ec\x1fd", "a\x85b", "a\u2028b\u2029c", "a\u180eb", "a\x7fb\x9fc", "a\x08\x1b[31mred",
    "tag\U000e0074\U000e0061\U000e0067", "\u0600 \u06dd\u0661", "a\u034fb", "a\u115fb\u1160c\u3164d\uffa0e",
    "x\u2061y\u2062z", "\ufff9ab\ufffac\ufffb", "a\ufffcb", "a".join(SPACES), "a".join(NOT_SPACES), "".join(SPACES),
    "a".join(CONTROLS), "a".join(FORMATS), "a".join(PRIVATE), "a".join(UNASSIGNED), PRIVATE, UNASSIGNED,
    # Punctuation and symbols.
    PUNCTUATION, "a".join(PUNCTUATION), " ".join(SYMBOLS), "a".join(SYMBOLS), "".join(chr(c) for c in range(33, 127)),
    "".join(chr(c) for c in range(0xA0, 0x100)), "don't can't won't 'tis", "don’t “quoted” ‘single’",
    "e.g. i.e. U.S.A.", "well-known state–of—the‒art", "...", "…", "-----", "a_b__c", "c++ c# .net f#",
    "foo@example.com http://x.y/z?q=1&r=%20", "$1,000.00 €5 £3 ¥100 50%", "3.14 -2 +7 1/2 ½ 10⁻³", "x²+y²=z²",
    "km² co₂ h₂o ¹⁄₂", "<b>bold</b> &amp; &#39;", "¿Qué? ¡Sí!", "\"quotes\" \t\"\"", "\\n \\t \\u0041",
    "{json: [1, 2]}", "a|b~c^d`e", "№ 5 ™ ® ©", "℃ ℉ Å", "\u0308 \u0303",
    # Emoji.
    *EMOJI, "".join(EMOJI), "I ❤" + VS16 + " NY", "ok👍🏽ok", "😀😀😀", "a😀b", "🇩🇪🇫🇷", "✈" + VS16 + "✈" + VS15 + "✈",
    "#" + VS16 + "\u20e3 *\u20e3", "👩🏽" + ZWJ + "🚀",
    # Words at and over the limits of 100 and 200 characters (not bytes, not UTF-16 units), before and after accents fall.
    *("a" * n for n in (99, 100, 101, 199, 200, 201, 255, 300, 1000)), "a" * 200 + " b", "b " + "a" * 201 + " c",
    "a" * 201 + "." + "a" * 200, "the" * 67, "é" * 100, "é" * 101, "é" * 200, "é" * 201,
    *(("e" + ACUTE) * n for n in (50, 51, 100, 101, 200, 201)), "😀" * 100, "😀" * 101, "😀" * 200, "😀" * 201, "é" * 150,
    "中" * 201, "." * 201, "a" * 150 + ZWJ + "a" * 50, "a" * 150 + ZWJ + "a" * 51, ("a" * 99 + "-") * 3, "İ" * 100,
    "İ" * 101, "İ" * 200, "한" * 67, "한" * 100, "Ꮿ" * 201, "a" * 200 + ACUTE, "x" * 101 + "\u0378" * 101, "Ǆ" * 120,
    # Words that fail in the middle are one [UNK], with what follows untouched.
    "hello\u2603world", "the\u16a0 the", "z\u16a0.z", "running\u4dc0", "\u16a0ing",
]


def random_texts(random, count, vocabulary):
    """Words, single characters and pieces of the vocabulary, stuck together with and without spaces."""
    materials = {
        4: [WORDS],
        3: [list(SPACES), old_characters()],
        2: [list(PUNCTUATION), [chr(c) for c in range(0x300, 0x370)]],
        1: [
            [word.upper() for word in WORDS],
            EMOJI,
            list(NOT_SPACES),
            list(CONTROLS),
            list(FORMATS),
            list(PRIVATE + UNASSIGNED),
            list(SYMBOLS),
            list(CJK_EDGES),
        ],
        10: [[piece.removeprefix("##") for piece in vocabulary]],
    }
    pool = [material for weight, group in materials.items() for material in group * weight]
    for _ in range(count):
        parts = []
        for _ in range(int(random.integers(1, 14))):
            part = _pick(random, _pick(random, pool))
            if random.random() < 0.15:
                part = unicodedata.normalize(_pick(random, ["NFC", "NFD"]), part)
            parts.append(part)
            if random.random() < 0.5:
                parts.append(" ")
        yield "".join(parts)


# CJK unified ideographs and their extensions A to G, as far as Unicode 14 and before assigned them.
IDEOGRAPHS = {
    "unified": (0x4E00, 0x9FFC),
    "A": (0x3400, 0x4DBF),
    "B": (0x20000, 0x2A6DD),
    "C": (0x2A700, 0x2B734),
    "D": (0x2B740, 0x2B81D),
    "E": (0x2B820, 0x2CEA1),
    "F": (0x2CEB0, 0x2EBE0),
    "G": (0x30000, 0x3134A),
}
FACES = ["😀", "👩", "👨", "👧", "💻", "🚀", "🏳", "🌈", "❤", "🔥", "👍🏽", "🧑🏿"]
# Round the limits of the peer (100) and of the reference (200).
LENGTHS = [99, 100, 101, 150, 199, 200, 200, 200, 201, 201, 250]


def generated_texts(random, count, vocabulary):
    """Kind and text: each kind of material that tokenizers differ on gets its share, among words."""
    pieces = [piece.removeprefix("##") for piece in vocabulary]
    kinds = {
        "words": lambda: _pick(random, WORDS),
        "combining marks": lambda: _marked(random),
        "CJK": lambda: "".join(_ideograph(random) for _ in range(int(random.integers(1, 4)))),
        "emoji joiners": lambda: ZWJ.join(_pick(random, FACES) + _pick(random, ["", "", VS16]) for _ in range(int(random.integers(2, 5)))),
        "controls": lambda: _pick(random, pieces) + _pick(random, list(CONTROLS + NOT_SPACES + FORMATS)) + _pick(random, pieces),
        "punctuation": lambda: _pick(random, pieces) + _pick(random, list(PUNCTUATION + SYMBOLS)),
        "spaces": lambda: _pick(random, list(SPACES)) + _pick(random, pieces),
        "long words": lambda: _long(random),
    }
    names, seen = list(kinds), set()
    while len(seen) < count:
        number = len(seen)
        # Of long words there are fewer, or they would fill the file.
        kind = names[number % len(names)] if number % len(names) < len(names) - 1 or number % 40 < 8 else "words"
        parts = [_pick(random, pieces) for _ in range(int(random.integers(0, 4)))]
        parts.insert(int(random.integers(0, len(parts) + 1)), kinds[kind]())
        text = "".join(part + _pick(random, ["", " "]) for part in parts)
        if text not in seen:
            seen.add(text)
            yield kind, text


def _marked(random):
    """Letters with marks on them: composed, decomposed, or as they come."""
    letters = "aeiouAEIOUncszñüéÅİßΩςđǅ한ガ"
    marks = [chr(c) for c in range(0x300, 0x370)] + list("\u0591\u05b4\u064b\u0670\u093c\u094d\u0e34\u0e47\u3099\u20dd")
    text = "".join(_pick(random, list(letters)) + "".join(_pick(random, marks) for _ in range(int(random.integers(0, 4)))) for _ in range(3))
    form = _pick(random, ["NFC", "NFD", None])
    return (unicodedata.normalize(form, text) if form else text) + _pick(random, marks)


def _ideograph(random):
    first, last = _pick(random, list(IDEOGRAPHS.values()))
    return chr(int(random.integers(first, last + 1)))


def _long(random):
    unit = _pick(random, ["a", "é", "e" + ACUTE, "ab", "ing", "Ω", "İ", "😀"])
    length = _pick(random, LENGTHS)
    return (unit * length)[: _pick(random, [length, length * len(unit)])]


def old_characters():
    """Letters, marks, numbers, signs and spaces of Unicode 3.2 whose category has not changed since, but for the largest blocks."""
    old = unicodedata.ucd_3_2_0
    blocks = (range(0x21, 0x3400), range(0xA000, 0xAC00), range(0xF900, 0x20000))
    found = [chr(c) for block in blocks for c in block]
    return [c for c in found if old.category(c) == unicodedata.category(c) and unicodedata.category(c)[0] in "LMNPSZ"]


def _pick(random, items):
    return items[int(random.integers(0, len(items)))]
