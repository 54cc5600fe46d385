"""The errors Vireo raises on purpose: one short tree, every message says what to do."""

from __future__ import annotations


class VireoError(Exception):
    """Base of all errors of this project; the command line shows its message on one line."""


class DataError(VireoError):
    """A data set cannot be used: no captions file, no usable picture, a broken line."""


class ImageError(DataError):
    """A picture is missing, is no picture, or cannot be decoded."""


class BundleError(VireoError):
    """A bundle or model repository is incomplete, damaged, or of an unknown schema version."""


class SegmenterError(VireoError):
    """A word segmenter is unknown, not installed, or lacks its files."""


class TokenizerError(VireoError):
    """A tokenizer's files are missing or damaged."""


class SearchIndexError(VireoError):
    """An index folder is missing, damaged, or made by another bundle."""


class ServerError(VireoError):
    """A Triton server cannot be found, started, reached, or answered with an error."""


class TrainingError(VireoError):
    """Training cannot start or go on: a bad setting, missing weights, a loss that is not finite."""


class ExportError(VireoError):
    """A bundle could not be turned into engines."""


class ParityError(ExportError):
    """An engine does not answer as the PyTorch module does; nothing was published."""


class EngineError(VireoError):
    """A TensorRT plan is not what was built, or was built for another GPU or TensorRT version."""


class MissingExtraError(VireoError):
    """A command needs a package that an extra of the distribution brings."""

    def __init__(self, package: str, extra: str, instead: str = "") -> None:
        super().__init__(
            f"{package} is not installed; this command needs it: "
            f"pip install 'vireo[{extra}]'{instead}"
        )
