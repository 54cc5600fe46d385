"""A bundle: the folder that holds everything needed to embed captions and images.

`bundle.json` says what the model expects and where it comes from. Beside it lie the tokenizer, the
segmenter's own files where it has any, and either the weights `model.safetensors`, which training
writes, or the engines, which export writes: a Triton model repository *is* a bundle whose weights
have become engines. The client reads `bundle.json` and the text files and never needs the weights.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import BundleError
from .text.buckets import check_buckets
from .text.segment import BUNDLED_FILES

SCHEMA_VERSION = 1
BUNDLE_FILE = "bundle.json"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageSpec(_Spec):
    """Preprocessing of an image to `pixels`, UINT8 `[N, 3, size, size]`.

    The image is resized, and a square of `size` x `size` in its centre is kept; `mean` and `std`
    (of values between 0 and 1) are applied inside the image tower.
    """

    size: int = Field(gt=0)
    resize: int = Field(gt=0)
    fit: Literal["window", "shortest", "squash"] = "window"
    """The part of the image that is resized, and its size after that:

    - `window`: the square in the centre of the image, straight to `size`. Training uses it. It is
      the fastest: pixels that will be cut away are never resized, and large photos shrink in whole
      steps first.
    - `shortest`: the whole image, its short side to `resize` and its long side to the whole number
      of pixels below. CLIP's libraries do this.
    - `squash`: the whole image, to `resize` x `resize`, whatever its shape. SigLIP does this.
    """
    offset: Literal["floor", "round"] = "floor"
    """The rounding of the square's place, where an odd number of pixels is cut away: transformers
    rounds down, torchvision to the nearest even number."""
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
    """Preprocessing of a text to `input_ids`, INT32 `[N, bucket]`."""

    normalization: str
    normalization_steps: tuple[str, ...] = ()
    """The steps of that normalisation, for people who read a bundle."""
    segmenter: str
    segmenter_files: tuple[str, ...] = ()
    pad_id: int = Field(ge=0)
    vocab_size: int = Field(gt=0)
    """The number of ids that the model has; every id is below it."""
    buckets: tuple[int, ...] = Field(min_length=1)
    """The lengths to which ids are padded. A model whose answer depends on the padding has one."""
    cut: Literal["word", "token"] = "word"
    """The place at which a text is cut that is longer than the last bucket: before the word that
    does not fit, or at any token. Special tokens at the end stay in both cases."""
    pad_side: Literal["right", "left"] = "right"
    padding_is_free: bool = False
    """Whether `pad_id` stands behind texts only, and no embedding depends on it: a CPU need not run
    it then. Older bundles do not say."""

    @model_validator(mode="after")
    def _buckets_ascend(self) -> TextSpec:
        check_buckets(self.buckets, least=2)
        return self

    @model_validator(mode="after")
    def _files_lie_in_the_bundle(self) -> TextSpec:
        # They are copied: into repositories, indexes and servers. A path would copy another file.
        for name in self.segmenter_files:
            if name in ("", "..") or name != Path(name).name:
                raise ValueError(f"segmenter_files names {name!r}; only plain file names are taken")
            known = BUNDLED_FILES.get(self.segmenter, frozenset())
            if name not in known:
                raise ValueError(
                    f"segmenter_files names {name!r}; segmenter {self.segmenter!r} has "
                    f"{' and '.join(sorted(known)) or 'no files'} in a bundle. Use this bundle "
                    "only if you trust where it comes from"
                )
        return self

    @property
    def max_length(self) -> int:
        """The longest sequence of ids, in tokens."""
        return self.buckets[-1]

    @property
    def free_padding(self) -> int | None:
        """The id of padding that a CPU need not run; None where it must."""
        return self.pad_id if self.padding_is_free else None


class PrecisionGate(_Spec):
    """Limits of the parity of an engine of one precision with PyTorch (docs/precision.md)."""

    min_cosine: float = Field(ge=-1, le=1)
    """The smallest cosine that an embedding of the engine may have to PyTorch's."""
    max_recall_loss: float = Field(ge=0, le=1)
    """The largest change that is allowed of recall@1, recall@5 or recall@10, text to image or image
    to text."""


class ExportSettings(_Spec):
    """Settings by which the bundle's engines are built and gated."""

    fp32: PrecisionGate = PrecisionGate(min_cosine=0.9999, max_recall_loss=0.001)
    fp16: PrecisionGate = PrecisionGate(min_cosine=0.999, max_recall_loss=0.005)
    int8: PrecisionGate = PrecisionGate(min_cosine=0.98, max_recall_loss=0.01)
    int4: PrecisionGate = PrecisionGate(min_cosine=0.95, max_recall_loss=0.02)
    calibration_pictures: int = Field(128, gt=0)
    """The largest number of images, with their captions, on which INT8 ranges are measured."""
    min_calibration_pictures: int = Field(16, gt=0)


class BundleConfig(_Spec):
    """The contents of `bundle.json`."""

    schema_version: Literal[1] = 1
    bundle_id: str = Field(min_length=8)
    embedding_dim: int = Field(gt=0)
    image: ImageSpec
    text: TextSpec
    model: dict[str, Any]
    """Settings that rebuild the PyTorch module; only training and export read them."""
    export: ExportSettings = ExportSettings()
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
        for file in self.text_files():
            if not file.is_file():
                raise BundleError(
                    f"{self.folder}: {file.name} is missing; copy the whole bundle again"
                )

    @property
    def bundle_id(self) -> str:
        """The hash of weights and settings by which engines and indexes refer to this bundle."""
        return self.config.bundle_id

    @property
    def tokenizer_file(self) -> Path:
        return self.folder / TOKENIZER_FILE

    @property
    def weights_file(self) -> Path:
        """Return the path of the weights.

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
        """List the files, besides `bundle.json`, that a client needs to turn a text into ids."""
        names = (TOKENIZER_FILE, *self.config.text.segmenter_files)
        return [self.folder / name for name in names]


def read_bundle_config(folder: Path) -> BundleConfig:
    """Read `bundle.json` alone, whatever else the folder holds.

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
    except (OSError, ValueError, RecursionError) as error:  # a number may have too many digits
        raise BundleError(f"{path}: cannot be read ({error}); copy the bundle again") from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{path}: schema version {version!r}, but this vireo reads version {SCHEMA_VERSION}; "
            "install the vireo that wrote it, or train and export again"
        )
    try:
        return BundleConfig.model_validate(raw)
    except RecursionError as error:
        raise BundleError(f"{path}: cannot be read ({error}); copy the bundle again") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path}: {where or 'bundle'}: {first['msg']}") from error


def write_config(folder: Path, config: BundleConfig) -> None:
    """Write `bundle.json` into `folder`."""
    text = json.dumps(config.model_dump(mode="json"), ensure_ascii=False, indent=2)
    (folder / BUNDLE_FILE).write_text(text + "\n", encoding="utf-8")


def file_sha256(path: Path) -> str:
    """Hash a file of any size to 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def make_bundle_id(*parts: bytes | Path) -> str:
    """Hash weights (as files) and settings (as bytes) to a bundle id of 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            digest.update(bytes.fromhex(file_sha256(part)))
        else:
            digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]
