"""A bundle: the folder that holds all that is needed to embed captions and pictures.

`bundle.json` says what the model expects and where it comes from. Beside it lie the tokenizer, the
segmenter's own files where it has any, and either `model.safetensors` (what training writes) or
the engines (what export writes: a Triton model repository *is* a bundle whose weights have become
engines). The client reads `bundle.json` and the text files and never needs the weights.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import BundleError

SCHEMA_VERSION = 1
BUNDLE_FILE = "bundle.json"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageSpec(_Spec):
    """How a picture becomes `pixels`, UINT8 `[N, 3, size, size]`.

    The picture's short side is resized to `resize` and its centre of `size` x `size` is kept;
    `mean` and `std` (of values between 0 and 1) are applied inside the image tower.
    """

    size: int = Field(gt=0)
    resize: int = Field(gt=0)
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bicubic"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @model_validator(mode="after")
    def _crop_fits(self) -> ImageSpec:
        if self.resize < self.size:
            raise ValueError(f"resize ({self.resize}) is smaller than size ({self.size})")
        if min(self.std) <= 0:
            raise ValueError(f"std is {self.std}; every channel must be above 0")
        return self


class TextSpec(_Spec):
    """How a caption becomes `input_ids`, INT32 `[N, bucket]`."""

    normalization: str
    normalization_steps: tuple[str, ...] = ()
    """What the normalisation of that name does, for people who read a bundle."""
    segmenter: str
    segmenter_files: tuple[str, ...] = ()
    pad_id: int = Field(ge=0)
    vocab_size: int = Field(gt=0)
    buckets: tuple[int, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _buckets_ascend(self) -> TextSpec:
        if list(self.buckets) != sorted(set(self.buckets)) or self.buckets[0] < 2:
            raise ValueError(f"buckets are {self.buckets}; they must ascend and start at 2 or more")
        return self

    @property
    def max_length(self) -> int:
        """The longest sequence of ids, in tokens."""
        return self.buckets[-1]


class BundleConfig(_Spec):
    """The contents of `bundle.json`."""

    schema_version: Literal[1] = 1
    bundle_id: str = Field(min_length=8)
    embedding_dim: int = Field(gt=0)
    image: ImageSpec
    text: TextSpec
    model: dict[str, Any]
    """What rebuilds the PyTorch module; only training and export read it."""
    metrics: dict[str, Any] = {}
    provenance: dict[str, Any] = {}


class Bundle:
    """A bundle's folder with its `bundle.json`, checked.

    Args:
        folder: a folder that training or export wrote.

    Raises:
        BundleError: there is no such folder, it is no bundle, a file it names is missing, or its
            schema version is not `SCHEMA_VERSION`.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.config = read_bundle_config(self.folder)
        for name in (TOKENIZER_FILE, *self.config.text.segmenter_files):
            if not (self.folder / name).is_file():
                raise BundleError(f"{self.folder}: {name} is missing; copy the whole bundle again")

    @property
    def bundle_id(self) -> str:
        """The name that ties engines and indexes to this bundle: a hash of weights and settings."""
        return self.config.bundle_id

    @property
    def tokenizer_file(self) -> Path:
        return self.folder / TOKENIZER_FILE

    @property
    def weights_file(self) -> Path:
        """The path of the weights.

        Raises:
            BundleError: the folder holds engines, not weights.
        """
        path = self.folder / WEIGHTS_FILE
        if not path.is_file():
            raise BundleError(
                f"{self.folder}: no {WEIGHTS_FILE}; give the bundle that training wrote, "
                "not a model repository made from it"
            )
        return path

    def text_files(self) -> list[Path]:
        """The files, besides `bundle.json`, that a client needs to turn a caption into ids."""
        names = (TOKENIZER_FILE, *self.config.text.segmenter_files)
        return [self.folder / name for name in names]


def read_bundle_config(folder: Path) -> BundleConfig:
    """Reads `bundle.json` alone, whatever else the folder holds.

    Raises:
        BundleError: there is none, or it is damaged or of an unknown schema version.
    """
    path = folder / BUNDLE_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(
            f"{folder}: no {BUNDLE_FILE} here; `vireo train` and `vireo export` write such folders"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); copy the bundle again") from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{path}: schema version {version!r}, but this vireo reads version {SCHEMA_VERSION}; "
            "install the vireo that wrote it, or train and export again"
        )
    try:
        return BundleConfig.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path}: {where or 'bundle'}: {first['msg']}") from error


def write_config(folder: Path, config: BundleConfig) -> None:
    """Writes `bundle.json` into `folder`."""
    text = json.dumps(config.model_dump(mode="json"), ensure_ascii=False, indent=2)
    (folder / BUNDLE_FILE).write_text(text + "\n", encoding="utf-8")


def file_sha256(path: Path) -> str:
    """Hashes a file of any size to 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def make_bundle_id(*parts: bytes | Path) -> str:
    """Hashes weights (as files) and settings (as bytes) to a bundle id of 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            digest.update(bytes.fromhex(file_sha256(part)))
        else:
            digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]
