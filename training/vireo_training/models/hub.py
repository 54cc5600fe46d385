"""Pretrained models by their name on the hub or a local folder; `VIREO_OFFLINE` is obeyed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vireo_client import environment
from vireo_client.errors import TrainingError, first_line


def offline() -> bool:
    """Return whether nothing may be downloaded; files in the hub's cache can still be used."""
    return environment.offline()


def fetch_folder(name: str, patterns: Sequence[str], *, advice: str) -> Path:
    """Return the folder of a model's files: a local one, or one downloaded from the hub.

    Args:
        name: a local folder or a repository of the Hugging Face hub.
        patterns: the files to download of a repository.
        advice: the end of the error's message: what to do without the files.

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
    """Return the source to load by transformers: `name`, or its local folder without a network.

    The option `local_files_only` of transformers still looks for some files on the hub.

    Raises:
        TrainingError: there is no network, and the model is not on this machine.
    """
    return str(fetch_folder(name, [], advice=advice)) if offline() else name


def cannot_fetch(name: str, error: Exception, advice: str) -> str:
    """Return the message for a model that could not be fetched."""
    if offline():
        reason = f"no such folder, it is not in the hub's cache, and {environment.OFFLINE} is set"
    else:
        reason = first_line(error)
    return f"{name}: cannot be had ({reason}); {advice}"
