"""Pretrained models by the name of the hub or a local folder; `VIREO_OFFLINE` is kept to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vireo_client import environment
from vireo_client.errors import TrainingError


def offline() -> bool:
    """Whether nothing may be downloaded; what the hub's cache holds can still be used."""
    return environment.offline()


def fetch_folder(name: str, patterns: Sequence[str], *, advice: str) -> Path:
    """Gives the folder of a model's files: a local one as it is, or the hub's, downloaded.

    Args:
        name: a local folder or a repository of the Hugging Face hub.
        patterns: the files wanted of a repository.
        advice: what to do without them; ends the error's message.

    Raises:
        TrainingError: it is neither, or cannot be downloaded.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, allow_patterns=list(patterns), local_files_only=offline())
        )
    except Exception as error:  # the hub, its HTTP library and the file system raise many kinds
        raise TrainingError(cannot_fetch(name, error, advice)) from error


def model_source(name: str, *, advice: str) -> str:
    """What to ask transformers for: `name`, or without a network the folder where it lies.

    Its own `local_files_only` still looks for some files on the hub.

    Raises:
        TrainingError: without a network, it is nowhere.
    """
    return str(fetch_folder(name, [], advice=advice)) if offline() else name


def cannot_fetch(name: str, error: Exception, advice: str) -> str:
    """The message for a model that could not be had."""
    if offline():
        reason = f"no such folder, it is not in the hub's cache, and {environment.OFFLINE} is set"
    else:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
    return f"{name}: cannot be had ({reason}); {advice}"
