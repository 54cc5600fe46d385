"""Packages that only some commands need, and the extras of the distribution that bring them.

FAISS and ONNX Runtime exist in a build for CPUs and in one for NVIDIA's GPUs. Both builds of either
install the same import package: installed together, they overwrite each other's files. So the base
depends on neither, `vireo[cpu]` and `vireo[gpu]` bring one pair each, and no other extra brings a
build of its own.
"""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .errors import MissingExtraError, VireoError

_IN_EITHER = ("faiss", "onnxruntime")
_OR_GPU = " (or 'vireo[gpu]' on a machine with an NVIDIA GPU)"

BUILDS = {
    "FAISS": ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12"),
    "ONNX Runtime": ("onnxruntime", "onnxruntime-gpu"),
}
"""Distributions of which an environment must hold one at most."""


def require(extra: str, *packages: str) -> None:
    """Check that packages are installed, before any work is done.

    Args:
        extra: the extra that brings them; FAISS and ONNX Runtime have their own two.
        packages: names to import.

    Raises:
        MissingExtraError: the first of `packages` that is not installed.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise missing(package, extra)


def missing(package: str, extra: str) -> MissingExtraError:
    """Make the error for a package that is not installed."""
    if package in _IN_EITHER:
        return MissingExtraError(package, "cpu", _OR_GPU)
    return MissingExtraError(package, extra)


def import_faiss() -> Any:
    """Import FAISS.

    Raises:
        MissingExtraError: neither build of it is installed.
    """
    return _import("faiss")


def import_onnxruntime() -> Any:
    """Import ONNX Runtime.

    Raises:
        MissingExtraError: neither build of it is installed.
    """
    return _import("onnxruntime")


def _import(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise _broken(package, error) from error
        raise missing(package, "cpu") from None
    except ImportError as error:  # a library that it links, say
        raise _broken(package, error) from error


def _broken(package: str, error: ImportError) -> VireoError:
    return VireoError(
        f"{package} is installed, but does not import ({error}); install the package or library "
        f"that it lacks, or {package} again"
    )


def clashing_builds() -> list[str]:
    """Find builds of one library that are installed together.

    Only the names of distributions are looked up; nothing is imported.

    Returns:
        A message for each such library, with the commands that mend it.
    """
    messages = []
    for library, names in BUILDS.items():
        installed = [name for name in names if installed_version(name)]
        if len(installed) > 1:
            messages.append(
                f"{' and '.join(installed)} are installed together and overwrite each other's "
                f"files; keep one build of {library}: pip uninstall {' '.join(installed)}, then "
                f"pip install 'vireo[cpu]'{_OR_GPU}"
            )
    return messages


def installed_version(name: str) -> str | None:
    """Return the version of a distribution; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
