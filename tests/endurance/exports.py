"""kill -9 of exports at random moments: the next one finds the repository whole and sweeps."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from vireo_client.bundle import Bundle
from vireo_client.errors import VireoError
from vireo_client.repository import MODELS, PARITY_FILE, model_file

_EXPORT = "from vireo_client.cli import main; main()"


def kill_exports(bundle: Path, data: Path, place: Path, kills: int, seed: int = 0) -> Counter[str]:
    """Kill that many exports, and then let one end.

    Args:
        bundle, data: what is exported, and captioned images to compare on.
        place: an empty folder, in which the repository and the temporary folder lie.
        kills: how many.
        seed: of the moments.

    Returns:
        How many were `killed`, `ended` before they were, or `left a draft`; how many drafts were
        still there after the next start (`not swept`), and how often the repository was not whole
        (`damaged`).
    """
    counts: Counter[str] = Counter()
    repository, temporary = place / "models", place / "tmp"
    temporary.mkdir()
    draw = random.Random(seed)
    # The first one ends, so that its time is known; its publication is removed again.
    seconds = _run(bundle, data, place / "timed" / "models", temporary)
    # PyTorch and ONNX Runtime keep caches there, of one name each; they are nobody's drafts.
    caches = {path.name for path in temporary.iterdir()}
    while counts["killed"] < kills:
        before = _left(place, caches)
        # At random, but not among the first imports.
        if _run(bundle, data, repository, temporary, draw.uniform(0.2, 1.0) * seconds):
            counts["ended"] += 1
        else:
            counts["killed"] += 1
        after = _left(place, caches)
        counts["left a draft"] += bool(after - before)
        if after - before or not after:  # it came as far as to sweep
            counts["not swept"] += len(before & after)
        counts["damaged"] += repository.exists() and not _is_whole(repository)
    _run(bundle, data, repository, temporary)
    counts["not swept"] += len(_left(place, caches))
    counts["damaged"] += not _is_whole(repository)
    return counts


def _left(place: Path, caches: set[str]) -> set[str]:
    beside = {path.name for path in place.iterdir()} - {"models", "timed", "tmp"}
    return beside | {path.name for path in (place / "tmp").iterdir()} - caches


def _is_whole(repository: Path) -> bool:
    try:
        Bundle(repository)
        engines = [model_file(repository, model) for model in MODELS]
    except VireoError:
        return False
    return (repository / PARITY_FILE).is_file() and all(path.is_file() for path in engines)


def _run(
    bundle: Path, data: Path, repository: Path, temporary: Path, kill_after: float | None = None
) -> float:
    """Export; return its seconds, 0 if it was killed."""
    words = ["export", bundle, "--data", data, "--repository", repository]
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", _EXPORT, *map(str, words)],
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, text=True,
    )  # fmt: skip
    try:
        _, errors = process.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return 0
    assert process.returncode == 0, errors
    return time.monotonic() - started
