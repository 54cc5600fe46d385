"""Loads PhoBERT's `vocab.txt` and `bpe.codes` as a tokenizer of Hugging Face's `tokenizers` (Rust).

PhoBERT (Nguyen and Nguyen, 2020) comes with fastBPE files, which `transformers.PhobertTokenizer`
reads in Python. The same ids come out of the Rust BPE, once the two conventions are mapped:

- fastBPE's vocabulary marks a piece inside a word, "ng@@", and leaves the last one bare, "ng"; its
  codes mark the last one, "ng</w>". The Rust BPE has the codes' form.
- Some pieces that the codes make on the way have no line in the vocabulary. PhoBERT gives the
  unknown id to such a piece if it is left over; the Rust BPE needs an id of its own to merge it
  further. These hidden pieces get the ids after the vocabulary, from `first_hidden_id` on: whoever
  encodes replaces every id from there on by the unknown one, as `tokenize.py` does.
- The codes are read as Python reads them: white space of any script parts the fields, so that the
  codes holding a no-break space are lost there, and must be here.
- Words are what Python's `\\S+\\n?` finds, with Python's idea of white space.

Merging is the same in both although PhoBERT merges all occurrences of a pair at once and Rust one
after the other: no piece has two derivations, and none is used before the code that makes it.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing

from vireo_client.errors import TokenizerError

VOCAB_FILE = "vocab.txt"
CODES_FILE = "bpe.codes"
# In the order of their ids, 0 to 3; `<mask>` comes after the vocabulary.
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
MASK_TOKEN = "<mask>"

# Stands before the hidden pieces in `tokenizer.json`. It holds blanks, so no text becomes it.
_HIDDEN_MARK = "<pieces outside the vocabulary follow>"
_END_OF_WORD = "</w>"
_INSIDE = "@@"
# What `str.isspace` takes for white space, in the notation of the Rust side's expressions, whose
# own \s lacks U+001C to U+001F.
_SPACE = (
    r"\x{9}-\x{d}\x{1c}-\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}"
    r"\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
)


def load_phobert(folder: Path) -> Tokenizer:
    """Build PhoBERT's tokenizer from its own files.

    Args:
        folder: Holds `vocab.txt` and `bpe.codes`.

    Returns:
        A tokenizer that puts `<s>` and `</s>` around a text, or two texts. Its ids are those of
        `transformers.PhobertTokenizer`, up to the hidden pieces that the module text explains.

    Raises:
        TokenizerError: If a file cannot be read or is not of the form.
    """
    encoder = _read_vocabulary(folder / VOCAB_FILE)
    merges = _read_codes(folder / CODES_FILE)
    specials = {token: encoder[token] for token in SPECIAL_TOKENS}
    specials[MASK_TOKEN] = len(encoder)
    pieces = _pieces(encoder, merges) | specials
    tokenizer = Tokenizer(
        BPE(
            vocab=pieces,
            merges=merges,
            unk_token=SPECIAL_TOKENS[3],
            end_of_word_suffix=_END_OF_WORD,
            fuse_unk=False,
        )
    )
    tokenizer.pre_tokenizer = Split(Regex(f"[^{_SPACE}]+\\n?"), "removed", invert=True)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in specials]
    )
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(token, specials[token]) for token in ("<s>", "</s>")],
    )
    return tokenizer


def first_hidden_id(tokenizer: Tokenizer) -> int | None:
    """Return the id from which on all ids mean the unknown one; None in another tokenizer."""
    number: int | None = tokenizer.token_to_id(_HIDDEN_MARK)
    return number


def _pieces(encoder: dict[str, int], merges: list[tuple[str, str]]) -> dict[str, int]:
    """Return the id of every piece in the codes' form; pieces outside the vocabulary come last."""
    pieces = {
        word[: -len(_INSIDE)] if word.endswith(_INSIDE) else word + _END_OF_WORD: number
        for word, number in encoder.items()
        if word != _INSIDE and word not in SPECIAL_TOKENS
    }
    hidden = len(encoder) + 1  # `<mask>` has len(encoder)
    pieces[_HIDDEN_MARK] = hidden
    hidden += 1
    for first, second in merges:
        for piece in (first, second, first + second):
            if piece not in pieces:
                stem = piece.removesuffix(_END_OF_WORD)
                number = encoder.get(stem if stem != piece else piece + _INSIDE, hidden)
                pieces[piece] = number
                hidden += number == hidden
    return pieces


def _read_vocabulary(path: Path) -> dict[str, int]:
    """Read the ids of words, special tokens first; a word on two lines has the later id."""
    encoder = {token: number for number, token in enumerate(SPECIAL_TOKENS)}
    for number, line in enumerate(_read_lines(path), 1):
        word, space, _ = line.strip().rpartition(" ")
        if not space:
            raise TokenizerError(f"{path}: line {number} is not `token count`; fetch it again")
        encoder[word] = len(encoder)
    return encoder


def _read_codes(path: Path) -> list[tuple[str, str]]:
    """Read the pairs to merge, the first to merge first.

    A code whose piece holds white space falls apart into other than two pieces and is never used;
    of two equal codes the later one counts, as in PhoBERT's reading.
    """
    ranks: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(_read_lines(path)):
        if not line.endswith("\n"):  # fastBPE ends every line; PhoBERT drops an unfinished one
            break
        fields = line.split()
        if not fields:
            raise TokenizerError(f"{path}: line {number + 1} is empty; fetch it again")
        ranks[tuple(fields[:-1])] = number
    if not ranks:
        raise TokenizerError(f"{path}: holds no codes; fetch it again")
    ordered = sorted((pair for pair in ranks if len(pair) == 2), key=ranks.__getitem__)
    return [(first, second) for first, second in ordered]


def _read_lines(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8") as file:
            return file.readlines()
    except OSError as error:
        raise TokenizerError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path}: is not UTF-8; fetch it again") from error
