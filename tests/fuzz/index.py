"""Fuzz an index: `python -m fuzz.index catalogue --seconds 600`, in the folder `tests`.

Each example damages one file of a small sound index, or changes rows of its catalogue, and opens it
in a process of its own. Whatever comes, reader, verification, writer and repair must answer as the
sound index does or with a `VireoError`, within seconds and 512 MB, and no writer may remove the
files of an index that it cannot read. An example that does not is printed, and kept in the folder
of seeds, which is read first at the next run.

Half of the changed rows are `sealed`: their checksums are those of a stranger who made the index
so. Then any answer is right, but nothing else is.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from fuzz.index_damages import DAMAGES
from fuzz.sound_index import Sound, ask, rounded
from vireo_client.bundle import Bundle
from vireo_client.errors import VireoError
from vireo_client.index import IndexWriter
from vireo_client.index.bundle_files import BUNDLE_FOLDER
from vireo_client.index.maintenance import info, verify

SEEDS = Path(__file__).parent / "seeds" / "index"
SECONDS, MEGABYTES = 20, 512
"""Of one example; the seconds allow for a busy machine."""
KINDS = ("hnsw", "ivf", "ivfpq", "sq8", "fp16", "rabitq")


def _stored(folder: Path) -> set[str]:
    return {path.name for path in (folder / "segments").glob("*")}


def examine(folder: Path, bundle: Bundle, right: list[str], sealed: bool) -> list[str]:
    """Open a damaged index in every way; return how it went, one word first for each way.

    Args:
        folder: the index, which is repaired at the end.
        bundle: its bundle.
        right: the answers of the sound index before and after its journal was taken over.
        sealed: whether the index holds what a stranger wrote, so that any answer is right.
    """
    outcomes = []

    def read() -> str:
        return "right" if sealed or rounded(ask(folder, bundle)) in right else "other answers"

    def write() -> str:
        before = _stored(folder)
        try:
            with IndexWriter(folder, bundle) as writer:
                writer.save()
        except VireoError:
            if before - _stored(folder):
                return "removed files of an index that it refused"
            raise
        return "right" if sealed or rounded(ask(folder, bundle)) in right else "other answers"

    def repair() -> str:
        verify(folder, repair=True)
        if sealed:
            return "right"
        ask(folder, bundle)  # some images may have left
        # The next writer copies the bundle's files anew.
        left = [p for p in verify(folder).problems if not p.where.startswith(BUNDLE_FOLDER)]
        return "still damaged" if left else "right"

    looked = Path(f"{folder}-copy")
    ways: dict[str, Callable[[], str]] = {
        "reader": read,
        "information": lambda: "right" if info(folder) else "nothing",
        "verification": lambda: "right" if verify(folder).is_whole else "found",
        "writer": write,
        "repair": repair,
    }
    for name, way in ways.items():
        if name == "writer":
            shutil.copytree(folder, looked)
        elif name == "repair":
            shutil.rmtree(folder)
            looked.rename(folder)
        try:
            outcome = way()
        except VireoError:
            outcome = "refused"
        except BaseException:
            outcome = f"raw error\n{traceback.format_exc()}"
        outcomes.append(f"{name}: {outcome}")
    return outcomes


GOOD = ("right", "refused", "found")


def try_example(
    folder: Path, bundle: Bundle, right: list[str], sealed: bool = False
) -> tuple[list[str], list[str]]:
    """Examine a damaged index in a process of its own.

    Returns:
        How it went, and which of it is wrong.
    """
    answer = Path(f"{folder}-answer")
    child = os.fork()
    if not child:
        status = 1
        try:
            _, hard = resource.getrlimit(resource.RLIMIT_CORE)
            resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
            signal.alarm(SECONDS)
            # A forked child begins with what its parent holds.
            begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            answer.write_text(json.dumps([begun, examine(folder, bundle, right, sealed)]))
            status = 0
        finally:
            os._exit(status)
    _, status, used = os.wait4(child, 0)
    if status:
        how = os.WTERMSIG(status) if os.WIFSIGNALED(status) else status
        outcomes = [f"process: ended by {how}"]
    else:
        begun, outcomes = json.loads(answer.read_text())
        taken = (used.ru_maxrss - begun) >> 10
        if taken > MEGABYTES:
            outcomes.append(f"process: took {taken} MB")
    return outcomes, [o for o in outcomes if o.partition(": ")[2] not in GOOD]


def try_seed(seed: Path, sound: Sound, place: Path) -> list[str]:
    """Examine an index that was kept; return what is wrong."""
    folder = place / "example"
    with zipfile.ZipFile(seed) as archive:
        archive.extractall(folder)
    _, wrong = try_example(folder, sound.bundle, sound.right, "sealed" in seed.name)
    _remove_example(place)
    return wrong


def pack(folder: Path, kept: Path) -> None:
    """Keep an index as a seed."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))


def _remove_example(place: Path) -> None:
    for left in ("example", "example-copy", "kept"):
        shutil.rmtree(place / left, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="fuzz an index")
    parser.add_argument("part", choices=DAMAGES)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--count", type=int, default=10**9)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    logging.disable()
    chance = random.Random(given.seed)
    counts: Counter[str] = Counter()
    tried = failed = 0
    end = time.monotonic() + given.seconds
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        kinds = KINDS if given.part == "segments" else KINDS[:1]
        sounds = {kind: Sound(place, kind) for kind in kinds}
        for seed in sorted(SEEDS.glob(f"{given.part}-*.zip")):
            for wrong in try_seed(seed, sounds[kind_of(seed)], place):
                print(f"{seed}: {wrong}", file=sys.stderr)
                failed += 1
        while time.monotonic() < end and tried < given.count:
            sound = sounds[chance.choice(kinds)]
            tried += 1
            folder = place / "example"
            shutil.copytree(sound.folder, folder)
            sealed = DAMAGES[given.part](folder, chance)
            shutil.copytree(folder, place / "kept")
            outcomes, wrong = try_example(folder, sound.bundle, sound.right, sealed)
            counts.update(outcome.partition("\n")[0] for outcome in outcomes)
            if wrong:
                failed += 1
                name = f"{given.part}-{sound.kind}-{given.seed}_{tried}"
                kept = SEEDS / f"{name}{'-sealed' if sealed else ''}.zip"
                pack(place / "kept", kept)
                print(f"{kept}: {wrong}", file=sys.stderr)
            _remove_example(place)
    for outcome, count in sorted(counts.items()):
        print(f"  {count:6} {outcome}")
    print(f"{given.part}: {tried} examples in {given.seconds:.0f} s, {failed} failed")
    sys.exit(failed > 0)


def kind_of(seed: Path) -> str:
    """Return the kind of structure that a kept index has."""
    return seed.name.split("-")[1]


if __name__ == "__main__":
    main()
