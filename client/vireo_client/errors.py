"""The errors that Vireo raises on purpose: one short tree, every message says what to do."""

from __future__ import annotations


class VireoError(Exception):
    """Base of all errors of this project; the command line shows its message on one line."""


class DataError(VireoError):
    """A data set cannot be used: no captions file, no usable image, a broken line."""


class ImageError(DataError):
    """An image file is missing, is of no known format, or cannot be decoded."""


class BundleError(VireoError):
    """A bundle or model repository is incomplete, damaged, or of an unknown schema version."""


class SegmenterError(VireoError):
    """A word segmenter is unknown, not installed, or lacks its files."""


class TokenizerError(VireoError):
    """A tokenizer's files are missing or damaged."""


class SearchIndexError(VireoError):
    """An index folder is missing, damaged, or made by another bundle."""


class IndexLocked(SearchIndexError):  # noqa: N818
    """Another process writes to the index, or holds its catalogue; try again when it is done."""


class ServerError(VireoError):
    """A Triton server cannot be found or started, or answers with an error.

    The four classes below are the answers that a caller can act on.
    """


class ServerUnavailable(ServerError):  # noqa: N818
    """No server answers at the address, or the model is not ready; try again later."""


class ServerTimeout(ServerError):  # noqa: N818
    """The answer did not come in time: of the call, or of the server's queue."""


class ServerOverloaded(ServerError):  # noqa: N818
    """The server's queue is full; try again after a pause, or send less."""


class ServerRejected(ServerError):  # noqa: N818
    """The server refuses the request itself; sent again, it will be refused again."""


class TrainingError(VireoError):
    """Training cannot start or go on: a bad setting, missing weights, a loss that is not finite."""


class ExportError(VireoError):
    """A bundle could not be turned into engines."""


class ParityError(ExportError):
    """An engine does not answer as the PyTorch module does; nothing was published."""


class EngineError(VireoError):
    """An engine cannot be used here.

    The file does not load or does not run; or a TensorRT plan is missing, is not the file that was
    built, or was built for another GPU or TensorRT version.
    """


class MissingExtraError(VireoError):
    """A command needs a package that an extra of the distribution brings."""

    def __init__(self, package: str, extra: str, instead: str = "") -> None:
        super().__init__(
            f"{package} is not installed; this command needs it: "
            f"pip install 'vireo[{extra}]'{instead}"
        )


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its class name where it has none.

    For messages of ours that quote another library's error, which may have dozens of lines.
    """
    return next(iter(str(error).splitlines()), type(error).__name__)
