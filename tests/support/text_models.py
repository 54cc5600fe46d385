"""A small segmenter model and tokenizer in the files' own formats, written by the tests."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

LEXICON = ["xe hơi", "hà nội", "con chó", "bãi cỏ", "học sinh", "sinh học", "câu lạc bộ", "toà nhà"]
RULES = """True : object.conclusion = "NN"
	object.tag == "I" : object.conclusion = "I"
		object.prevWord1 == "học" and object.word == "sinh" and object.nextWord1 == "học" : object.conclusion = "B"
			object.prevWord2 == "cô" : object.conclusion = "I"
	object.tag == "B" : object.conclusion = "B"
		object.prevWord1 == "màu" and object.word == "đỏ" : object.conclusion = "I"
		object.nextWord2 == "" and object.word == "học" and object.prevTag1 == "B" : object.conclusion = "I"
"""  # noqa: E501


def java_set(strings: Sequence[str | bytes], name: bytes = b"java.util.HashSet") -> bytes:
    """A serialised `HashSet<String>`; strings of bytes are taken as modified UTF-8."""
    out = b"\xac\xed\x00\x05\x73\x72" + struct.pack(">H", len(name)) + name
    out += b"\xba\x44\x85\x95\x96\xb8\xb7\x34\x03\x00\x00\x78\x70\x77\x0c"
    out += struct.pack(">ifi", 16, 0.75, len(strings))
    for string in strings:
        raw = string if isinstance(string, bytes) else string.encode()
        long = len(raw) > 0xFFFF
        out += (
            b"\x7c" + struct.pack(">Q", len(raw)) if long else b"\x74" + struct.pack(">H", len(raw))
        )
        out += raw
    return out + b"\x78"


def write_model(folder: Path) -> Path:
    """Writes the small model's two files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vi-vocab").write_bytes(java_set(LEXICON))
    (folder / "wordsegmenter.rdr").write_text(RULES, encoding="utf-8")
    return folder


def write_phobert(folder: Path) -> Path:
    """Writes a small PhoBERT vocabulary and codes; "xe_h" is a piece without a line."""
    folder.mkdir(parents=True, exist_ok=True)
    codes = ["x e", "x e</w>", "h ơ", "hơ i</w>", "xe _", "xe_ h", "c o", "co n</w>", "\xa0 k"]
    words = ["xe", "xe@@", "hơi", "hơ@@", "con", "co@@", "c@@", "o@@", "n", "i", "x@@", "h@@", "."]
    words += ["_@@", "e", "o", "c", "k@@"]
    (folder / "bpe.codes").write_text("".join(f"{code} 9\n" for code in codes), encoding="utf-8")
    (folder / "vocab.txt").write_text("".join(f"{word} 9\n" for word in words), encoding="utf-8")
    return folder
