"""Try for long what the tests try briefly: `python -m endurance`, in the folder `tests`.

Each part prints what it counted, and fails where a count is not what it must be. All of them take
about half an hour on two cores. `--only PART` runs one of them.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path

from endurance import exports, folders, serving, writers
from support.certificates import write_certificates
from support.index_storm import read_beside, write
from support.kills import kill_runs
from support.small_index import write_small_bundle
from vireo_client.bundle import Bundle

Counts = Mapping[str, int]
_FUZZ = Path(__file__).resolve().parent.parent / "fuzz" / "publications.py"


class _Model:
    """A trained bundle, its repository and captioned images; made when they are first needed."""

    def __init__(self, run: Path) -> None:
        self._run = run

    @property
    def data(self) -> Path:
        return self._run / "scenes" / "test"

    @property
    def bundle(self) -> Path:
        self._make()
        return self._run / "bundle"

    @property
    def repository(self) -> Bundle:
        self._make()
        return Bundle(self._run / "model_repository")

    def _make(self) -> None:
        if not (self._run / "model_repository").is_dir():
            demo = "from vireo_client.cli import main; main()"
            subprocess.run(
                [sys.executable, "-c", demo, "demo", "--out", str(self._run), "--epochs", "1"],
                check=True, stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )  # fmt: skip


def _kills(place: Path, _: _Model) -> tuple[Counts, bool]:
    counts = kill_runs(place, 50)
    return counts, counts["killed"] == 50  # what is lost or mixed up raises


def _writers(place: Path, _: _Model) -> tuple[Counts, bool]:
    counts = writers.write_together(place / "i", write_small_bundle(place / "models"), 60)
    return counts, counts["images"] == 720 and not counts["lost"] + counts["damaged"]


def _readers(place: Path, _: _Model) -> tuple[Counts, bool]:
    folder, bundle = place / "i", write_small_bundle(place / "models")
    with redirect_stdout(None):
        write(folder, bundle, 1_000, 3)
    pairs = read_beside(folder, bundle, 4, 1_000, lambda: True)  # a wrong pair raises
    return {"saves": 1_000, "pairs that were right": pairs}, pairs > 1_000


def _folders(place: Path, _: _Model) -> tuple[Counts, bool]:
    counts = folders.start_at_once(place, 6_000)
    return counts, counts["started"] == 6_000 and not _failed(counts) and not counts["after"]


def _exports(place: Path, model: _Model) -> tuple[Counts, bool]:
    counts = exports.kill_exports(model.bundle, model.data, place, 11)
    return counts, counts["killed"] == 11 and not counts["not swept"] + counts["damaged"]


def _poison(_: Path, model: _Model) -> tuple[Counts, bool]:
    counts = serving.poison(model.repository, 1_000)
    return counts, (counts["right"], counts["refused"], counts["server ended"]) == (1_000, 1_000, 0)


def _restricted(_: Path, model: _Model) -> tuple[Counts, bool]:
    counts = serving.call_restricted(model.repository)
    return counts, (counts["gRPC: refused"], counts["HTTP: refused"]) == (12, 12)


def _tls(place: Path, model: _Model) -> tuple[Counts, bool]:
    counts = serving.refuse_tls(model.repository, write_certificates(place))
    return counts, counts == {"refused": 9}


def _publications(_: Path, model: _Model) -> tuple[Counts, bool]:
    done = subprocess.run(
        [sys.executable, _FUZZ, model.repository.folder, "--seconds", "100"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    print(done.stdout.strip() or done.stderr[-500:])
    return {}, done.returncode == 0


def _failed(counts: Counts) -> int:
    return sum(count for name, count in counts.items() if name.startswith("failed"))


PARTS: dict[str, Callable[[Path, _Model], tuple[Counts, bool]]] = {
    "kill -9 of indexing, saves every 0.05 s": _kills,
    "four writers, 60 rounds": _writers,
    "readers beside 1,000 saves": _readers,
    "servers starting at once": _folders,
    "kill -9 of exports": _exports,
    "poisoned batches beside good clients": _poison,
    "restricted protocols": _restricted,
    "TLS refusals": _tls,
    "publish and roll back at random under load": _publications,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="try for long what the tests try briefly")
    parser.add_argument("--run", type=Path, help="a folder that `vireo demo` wrote; else one is")
    parser.add_argument("--only", choices=PARTS)
    given = parser.parse_args()
    logging.disable()
    bad = []
    with tempfile.TemporaryDirectory() as scratch:
        model = _Model(given.run or Path(scratch) / "run")
        for number, (name, part) in enumerate(PARTS.items()):
            if given.only in (None, name):
                place = Path(scratch) / str(number)
                place.mkdir()
                started = time.monotonic()
                try:
                    counts, held = part(place, model)
                except AssertionError as error:
                    counts, held = {}, False
                    print(error, file=sys.stderr)
                seconds = f"{time.monotonic() - started:.0f} s"
                print(name, dict(counts), seconds, "held" if held else "FAILED", flush=True)
                bad += [] if held else [name]
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
