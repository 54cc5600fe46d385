"""Environments of other projects' packages, each of its own: their pins do not agree with ours."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Environment:
    """What is installed for one peer."""

    name: str
    requirements: tuple[str, ...]
    package: str
    """The distribution whose version is reported."""
    module: str
    """The module that must import."""


ENVIRONMENTS = (
    # infinity 0.0.77 asks for no version of these; later ones lack names that it imports.
    Environment(
        "infinity",
        ("infinity-emb[server,torch]==0.0.77", "click<8.2", "typer<0.13", "transformers<5",
         "huggingface-hub<1"),
        "infinity-emb",
        "infinity_emb",
    ),
    Environment(
        "sentence-transformers",
        ("sentence-transformers>=5",),
        "sentence-transformers",
        "sentence_transformers",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Installed:
    """An environment that is ready."""

    python: Path
    version: str


def ensure(environment: Environment, folder: Path) -> Installed:
    """Make an environment unless it is there, and return it.

    PyTorch is of the version and build that this process has.

    Args:
        environment: what to install.
        folder: the folder of all environments.

    Raises:
        RuntimeError: a package does not install or import; the message says which and why. The
            next call fails with the same message at once: delete the folder to try again.
    """
    place = folder / environment.name
    python, failed = place / "bin" / "python", place / "failed.txt"
    if failed.is_file():
        raise RuntimeError(failed.read_text(encoding="utf-8"))
    if not (place / ".complete").is_file():
        try:
            _make(environment, place, python)
        except (subprocess.SubprocessError, OSError) as error:
            place.mkdir(parents=True, exist_ok=True)
            message = f"does not install here: {_reason(error)}"
            failed.write_text(message, encoding="utf-8")
            raise RuntimeError(message) from None
        (place / ".complete").touch()
    code = f"import importlib.metadata as m; print(m.version({environment.package!r}))"
    version = _run([str(python), "-c", code]).stdout.strip()
    return Installed(python, version)


def _make(environment: Environment, place: Path, python: Path) -> None:
    _run([sys.executable, "-m", "venv", str(place)])
    torch = f"torch=={importlib.metadata.version('torch')}"
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    _run([*pip, torch])
    _run([*pip, torch, *environment.requirements])
    _run([str(python), "-c", f"import {environment.module}"])


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=1800)


def _reason(error: subprocess.SubprocessError | OSError) -> str:
    if not isinstance(error, subprocess.CalledProcessError):
        return str(error)
    lines = [line for line in (error.stderr or error.stdout or "").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()] or lines
    return errors[-1].strip()[:300] if errors else f"exit status {error.returncode}"
