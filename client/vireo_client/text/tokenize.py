"""Turns segmented text into padded ids, by a tokenizer of Hugging Face's `tokenizers` (Rust).

`load_tokenizer` loads one from a folder. `TextTokenizer` is its use by the text path: many texts at
once, cut where they are too long, padded to a few lengths.
"""

from __future__ import annotations

import bisect
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from vireo_client.errors import TokenizerError
from vireo_client.text import phobert
from vireo_client.text.buckets import BUCKETS, check_buckets

TOKENIZER_FILE = "tokenizer.json"

_PAD_TOKENS = ("<pad>", "[PAD]", "<|pad|>")
_UNKNOWN_TOKENS = ("<unk>", "[UNK]")
_SENTENCEPIECE_BLANK = "▁"

logger = logging.getLogger(__name__)


class TextBatch(NamedTuple):
    """The texts of one bucket: their positions in the call, and their ids."""

    positions: npt.NDArray[np.intp]
    """[n]: the index of each row's text in the call."""
    input_ids: npt.NDArray[np.int32]
    """INT32 [n, bucket], padded."""


class TextTokenizer:
    """Turns texts into ids. Immutable: threads may share it.

    Args:
        tokenizer: The tokenizer, which adds special tokens. Its own padding and truncation are
            switched off.
        buckets: Lengths to pad to, ascending; the last is the longest text the model takes.
        pad_id: The id that pads; by default that of a token named as padding.
        vocab_size: The number of ids that the model has. Higher ids of the tokenizer are replaced
            by the unknown one.
        cut: Where a text that is too long is cut: before the "word" that does not fit, or at any
            "token".
        pad_side: Where the padding stands, "right" or "left" of the text.

    Raises:
        TokenizerError: If it has no padding token, or the buckets are not usable.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        buckets: Sequence[int] = BUCKETS,
        *,
        pad_id: int | None = None,
        vocab_size: int | None = None,
        cut: Literal["word", "token"] = "word",
        pad_side: Literal["right", "left"] = "right",
    ) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self.cut, self.pad_side = cut, pad_side
        self._hidden = phobert.first_hidden_id(tokenizer)
        if vocab_size is not None and vocab_size < tokenizer.get_vocab_size():
            self._hidden = vocab_size
        self._unknown = _first_known(tokenizer, _UNKNOWN_TOKENS)
        pad = _first_known(tokenizer, _PAD_TOKENS) if pad_id is None else pad_id
        if pad is None:
            raise TokenizerError(
                f"the tokenizer has no padding token; name one of its tokens {_PAD_TOKENS[0]}"
            )
        try:
            check_buckets(buckets, least=tokenizer.num_special_tokens_to_add(False) + 1)
        except ValueError as error:
            raise TokenizerError(str(error)) from None
        self._says_nothing = frozenset(
            {
                *self._encode([""])[0].ids,
                self._unknown,
                _first_known(tokenizer, [_SENTENCEPIECE_BLANK]),
                _first_known(tokenizer, [getattr(tokenizer.model, "unk_token", None) or ""]),
            }
        )
        self.pad_id: int = pad
        self.buckets = tuple(buckets)
        self.vocab_size: int = self._hidden or tokenizer.get_vocab_size()
        """The number of ids; every id is below it."""

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, with special tokens, cut at the longest bucket, not padded.

        A warning is logged the first time that a text is cut. All texts are encoded in parallel.
        """
        return [
            self._finish(text, encoding)
            for text, encoding in zip(texts, self._encode(texts), strict=True)
        ]

    def knows(self, ids: Sequence[int]) -> bool:
        """Return whether any of a text's ids, not padded, stands for a piece of text.

        Special tokens, unknown ones and SentencePiece's blank do not: all texts that consist of
        them alone look the same to a model.
        """
        return not self._says_nothing.issuperset(ids)

    def tokens_and_ids(self, text: str) -> tuple[list[str], list[int]]:
        """Return the pieces of one text, not cut, and its ids as `ids` does."""
        (encoding,) = self._encode([text], fast=False)
        return encoding.tokens, self._finish(text, encoding)

    @property
    def padding_is_free(self) -> bool:
        """Whether a tower that does not read its padding may leave it off.

        With several buckets no embedding depends on how much padding there is. Padding before a
        text moves the text; and CLIP's tokenizers end a text with the token that pads.
        """
        (ids,) = self.ids(["a"])
        return len(self.buckets) > 1 and self.pad_side == "right" and self.pad_id not in ids

    def bucket(self, length: int) -> int:
        """Return the smallest bucket that holds `length` ids."""
        return self.buckets[bisect.bisect_left(self.buckets, length)]

    def pad(self, rows: Sequence[Sequence[int]]) -> list[TextBatch]:
        """Sort rows of ids into the smallest buckets that hold them, and pad them.

        Args:
            rows: Ids of each text, none longer than the last bucket.

        Returns:
            One batch for each bucket in use, shortest first; together they cover every row once.
        """
        members: dict[int, tuple[list[int], list[Sequence[int]]]] = {}
        for position, row in enumerate(rows):
            positions, batch = members.setdefault(self.bucket(len(row)), ([], []))
            positions.append(position)
            batch.append(row)
        return [
            TextBatch(
                np.array(positions, dtype=np.intp),
                pad_ids(batch, bucket, self.pad_id, self.pad_side),
            )
            for bucket, (positions, batch) in sorted(members.items())
        ]

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` into a folder."""
        self._tokenizer.save(str(folder / TOKENIZER_FILE))

    def as_json(self) -> str:
        """Return the contents of the file that `save` writes."""
        text: str = self._tokenizer.to_str()
        return text

    def _encode(self, texts: Sequence[str], *, fast: bool = True) -> list[Encoding]:
        """Encode texts in parallel; the fast way returns ids, without pieces and words."""
        tokenizer = self._tokenizer
        encode = tokenizer.encode_batch_fast if fast else tokenizer.encode_batch
        try:
            try:
                return encode(list(texts))
            except (TypeError, UnicodeError):
                # Rust has no lone surrogates. The noncharacter in their place is as unknown.
                return encode([text.translate(_SURROGATES) for text in texts])
        except _NOT_OF_RUST:
            raise
        except BaseException as error:
            raise TokenizerError(
                f"the tokenizer cannot encode, so its file is damaged ({error})"
            ) from error

    def _finish(self, text: str, encoding: Encoding) -> list[int]:
        """Return the ids of an encoding, cut at the last bucket, hidden pieces as unknown."""
        ids = encoding.ids
        if len(ids) > self.buckets[-1]:
            (encoding,) = self._encode([text], fast=False)
            ids = _cut(ids, encoding.word_ids, self.buckets[-1], whole_words=self.cut == "word")
        if self._hidden is not None and max(ids, default=0) >= self._hidden:
            unknown = self._unknown or 0
            ids = [unknown if number >= self._hidden else number for number in ids]
        return ids


def pad_ids(
    rows: Sequence[Sequence[int]] | Sequence[npt.NDArray[np.int32]],
    length: int,
    pad_id: int,
    pad_side: Literal["right", "left"] = "right",
) -> npt.NDArray[np.int32]:
    """Pad rows of ids to one length.

    Args:
        rows: Ids of each text, none longer than `length`.
        length: The length of the result, in tokens.
        pad_id: The id that pads.
        pad_side: Where the padding stands, "right" or "left" of the text.

    Returns:
        INT32 [N, length].
    """
    # Lists, not arrays: one text at a time, NumPy's functions would take as long as the rest.
    padded = []
    for row in rows:
        padding = [pad_id] * (length - len(row))
        padded.append([*padding, *row] if pad_side == "left" else [*row, *padding])
    return np.array(padded, dtype=np.int32).reshape(len(padded), length)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer that a folder holds.

    Args:
        folder: Holds `tokenizer.json`, of any Hugging Face tokenizer, or PhoBERT's `vocab.txt` and
            `bpe.codes`; or it is the `tokenizer.json` itself.

    Raises:
        TokenizerError: If there is none, or it is damaged.
    """
    file = folder / TOKENIZER_FILE if folder.is_dir() else folder
    if file.is_file():
        try:
            return Tokenizer.from_file(str(file))
        except _NOT_OF_RUST:
            raise
        except BaseException as error:
            raise TokenizerError(f"{file}: cannot be read ({error})") from error
    if (folder / phobert.VOCAB_FILE).is_file() and (folder / phobert.CODES_FILE).is_file():
        return phobert.load_phobert(folder)
    raise TokenizerError(
        f"{folder}: holds neither {TOKENIZER_FILE} nor {phobert.VOCAB_FILE} with "
        f"{phobert.CODES_FILE}; name a folder that does"
    )


_NOT_OF_RUST = (KeyboardInterrupt, SystemExit, MemoryError)
"""What may come while the Rust library is at work. It raises plain `Exception` itself, and for a
panic one that is no `Exception` and has no public name."""
_SURROGATES = dict.fromkeys(range(0xD800, 0xE000), "\U0010ffff")
_warning_lock = threading.Lock()
_warned = False


def _cut(ids: list[int], words: list[int | None], limit: int, *, whole_words: bool) -> list[int]:
    """Cut ids to `limit`, before a word or anywhere; special tokens at the end stay."""
    _warn_once(len(ids), limit)
    end = len(ids)
    while end and words[end - 1] is None:
        end -= 1
    closing = ids[end:]
    cut = longest = limit - len(closing)
    while whole_words and cut and words[cut - 1] is not None and words[cut - 1] == words[cut]:
        cut -= 1
    # A single word longer than the limit is cut where it must be.
    if not cut or words[cut - 1] is None:
        cut = longest
    return ids[:cut] + closing


def _warn_once(length: int, limit: int) -> None:
    global _warned
    with _warning_lock:
        if _warned:
            return
        _warned = True
    logger.warning(
        "a text of %d tokens was cut to fit %d; further ones are cut silently",
        length,
        limit,
    )


def _first_known(tokenizer: Tokenizer, names: Sequence[str]) -> int | None:
    """Return the id of the first of these tokens that the tokenizer has."""
    for name in names:
        number: int | None = tokenizer.token_to_id(name)
        if number is not None:
            return number
    return None
