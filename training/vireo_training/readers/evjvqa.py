"""EVJVQA: questions and answers about images from Viet Nam, in Vietnamese, English and Japanese.

The file is `{"images": [{"id", "filename"}], "annotations": [{"id", "image_id", "question",
"answer"}]}` (Nguyen et al., "EVJVQA Challenge: Multilingual Visual Question Answering", 2023).
Answers are whole phrases about the image and serve as its captions; questions do not.

The released file tags no language. So the language follows from the script of the question, which
is longer and holds fewer names than the answer. Where a copy has a `language` on each annotation,
that counts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vireo_client.captions import Described, LeftOut, Skip

from .coco import image_names, image_of, tables

MIN_WORDS = 3
"""Shorter answers ("có", "màu đỏ") are true of too many images to describe one."""

_JAPANESE = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uff66-\uff9f]")
# What Vietnamese adds to the Latin alphabet, after decomposition: đ, the horn, the breve, the
# circumflex, and the five tone marks.
_VIETNAMESE = re.compile("[đĐ\u031b\u0306\u0302\u0300\u0301\u0303\u0309\u0323]")
# Seven of ten Vietnamese syllables carry a mark; an English question about "chợ Bến Thành" has few.
_MARKED_SHARE = 0.3


def language_of(text: str) -> str:
    """Return "vi", "en" or "ja", by script.

    Any kana or kanji makes it Japanese; three in ten words with a letter or tone mark of the
    Vietnamese alphabet make it Vietnamese; the rest is English.
    """
    if _JAPANESE.search(text):
        return "ja"
    words = unicodedata.normalize("NFD", text).split()
    marked = sum(bool(_VIETNAMESE.search(word)) for word in words)
    return "vi" if words and marked >= _MARKED_SHARE * len(words) else "en"


def read(path: Path, document: Any) -> Iterator[Described | Skip]:
    """Yield the Vietnamese answers; other languages and very short answers are left out.

    Raises:
        DataError: the document has no lists of images and annotations.
    """
    images, annotations = tables(path, document)
    names, broken = image_names(path, images)
    yield from broken
    for number, annotation in enumerate(annotations):
        where = f"{path}: annotations[{number}]"
        try:
            _, name = image_of(annotation, names)
            question, answer = _texts(annotation)
        except ValueError as error:
            yield Skip(where, str(error))
            continue
        language = annotation.get("language") or language_of(question or answer)
        if language != "vi":
            yield LeftOut(where, f"is in another language ({language})")
        elif answer.strip() and len(answer.split()) < MIN_WORDS:
            yield LeftOut(where, f"is an answer of fewer than {MIN_WORDS} words")
        else:
            yield Described(where, name, [answer])


def _texts(annotation: dict[str, Any]) -> tuple[str, str]:
    question, answer = annotation.get("question", ""), annotation.get("answer")
    if not isinstance(question, str) or not isinstance(answer, str):
        raise ValueError('"question" and "answer" must be texts')
    return question, answer
