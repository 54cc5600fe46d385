"""A storm over one index: a writer that changes it all the time, and readers beside it.

An embedding follows from its image's path and version, so that anybody can tell whether an answer
pairs the two rightly. As a script, in the folder `tests`, it runs for longer than a test may:

    python -m support.index_storm kills --count 50
    python -m support.index_storm readers --seconds 120
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from vireo_client.bundle import Bundle
from vireo_client.index import Index, IndexWriter, NewImage
from vireo_client.index.kinds import SearchSettings
from vireo_client.index.maintenance import verify
from vireo_client.index.rows import FileStamp

from support.small_index import DIM, write_small_bundle

NAMES = 40
EXACT = SearchSettings(exact=True)


def embedding(text: str) -> npt.NDArray[np.float32]:
    """Return the unit vector that belongs to a text, FP32 `[DIM]`."""
    drawn = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(DIM)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


def versioned(name: int, version: int) -> NewImage:
    """Return one version of an image: its size in bytes is the version."""
    path = f"{name}.jpg"
    captions = tuple(f"{path} {version} {n}" for n in range(version % 3))
    return NewImage(
        path,
        f"{version:064}",
        FileStamp(version + 1, 1),
        embedding(f"{path} {version}"),
        captions,
        np.stack([embedding(c) for c in captions]) if captions else None,
        {"version": version},
    )


def change(writer: IndexWriter, draw: random.Random, version: int) -> None:
    """Add and replace images, remove some, and now and then compact."""
    names = draw.sample(range(NAMES), draw.randint(1, 5))
    writer.add([versioned(name, version) for name in names])
    indexed = sorted(writer.stamps())
    if len(indexed) > NAMES // 2:
        writer.remove(draw.sample(indexed, 3))
    writer.save()
    if draw.random() < 0.15:
        writer.compact("flat")


def check(index: Index) -> int:
    """Check that every image and caption that is found has its own embedding.

    Returns:
        How many images were checked.
    """
    generation = index._opened.vectors.state.generation
    queries = np.stack([embedding(f"query {n}") for n in range(4)])
    checked = 0
    for number, matches in enumerate(index.search_images(queries, NAMES, search=EXACT)):
        paths = [match.path for match in matches]
        assert len(set(paths)) == len(paths), "an image is there twice"
        for match in matches:
            own = embedding(f"{match.path} {match.metadata['version']}")
            assert abs(float(own @ queries[number]) - match.score) < 1e-5, match
            assert match.metadata["bytes"] == match.metadata["version"] + 1
            checked += 1
    for number, matches in enumerate(index.search_captions(queries, 2 * NAMES, search=EXACT)):
        for match in matches:
            assert abs(float(embedding(match.caption) @ queries[number]) - match.score) < 1e-5
            assert match.caption.split()[:2] == [match.path, str(match.metadata["version"])]
    assert index._opened.vectors.state.generation >= generation
    return checked


def write(folder: Path, bundle: Bundle, seed: int, saves: int) -> None:
    """Change an index a number of times."""
    draw = random.Random(seed)
    with IndexWriter(folder, bundle) as writer:
        print("writing", flush=True)
        for turn in range(saves):
            change(writer, draw, 1000 * seed + turn)


def start_writer(folder: Path, bundle: Bundle, seed: int, saves: int) -> subprocess.Popen[str]:
    """Start a process that changes an index."""
    words = [
        "-m",
        "support.index_storm",
        "write",
        folder,
        bundle.folder,
        "--seed",
        seed,
        "--saves",
        saves,
    ]
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def kill_writers(folder: Path, bundle: Bundle, count: int, seed: int = 0) -> list[int]:
    """Kill one writer after the other at random moments; the index must be whole each time.

    Returns:
        The number of images after each kill.
    """
    draw = random.Random(seed)
    sizes = []
    for turn in range(count):
        process = start_writer(folder, bundle, seed + turn, saves=100_000)
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        time.sleep(draw.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        found = verify(folder)
        assert found.is_whole, found.problems
        with Index(folder, bundle) as index:
            check(index)
            sizes.append(len(index))
    return sizes


def read_beside(
    folder: Path, bundle: Bundle, readers: int, saves: int, go_on: Callable[[], bool]
) -> int:
    """Search in several threads, each with an index of its own, beside a writer.

    Args:
        folder, bundle: the index and its bundle.
        readers: the number of threads.
        saves: the number of saves of the writer.
        go_on: asked after each search; False ends the storm before the writer has finished.

    Returns:
        How many pairs were checked.
    """
    errors: list[BaseException] = []
    counts = [0] * readers
    process = start_writer(folder, bundle, 1, saves)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"

    def read(number: int) -> None:
        try:
            with Index(folder, bundle) as index:
                while process.poll() is None and go_on():
                    counts[number] += check(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended = process.poll()
    process.kill()
    process.wait()
    process.stdout.close()
    if errors:
        raise errors[0]
    assert ended in (None, 0), ended
    return sum(counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    kills = verbs.add_parser("kills")
    kills.add_argument("--count", type=int, default=50)
    beside = verbs.add_parser("readers")
    beside.add_argument("--seconds", type=float, default=120)
    beside.add_argument("--readers", type=int, default=4)
    writing = verbs.add_parser("write")
    writing.add_argument("folder", type=Path)
    writing.add_argument("bundle", type=Path)
    writing.add_argument("--saves", type=int, required=True)
    for verb in (kills, beside, writing):
        verb.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.verb == "write":
        write(options.folder, Bundle(options.bundle), options.seed, options.saves)
        return
    with tempfile.TemporaryDirectory() as place:
        folder, bundle = Path(place) / "i", write_small_bundle(Path(place) / "model_repository")
        write(folder, bundle, 1_000, 3)
        if options.verb == "kills":
            sizes = kill_writers(folder, bundle, options.count, options.seed)
            print(f"{len(sizes)} kills, the index was whole each time: {sizes} images")
        else:
            end = time.monotonic() + options.seconds
            checked = read_beside(
                folder, bundle, options.readers, 10**9, lambda: time.monotonic() < end
            )
            found = verify(folder)
            assert found.is_whole, found.problems
            print(f"{checked} pairs were right beside a writer")


if __name__ == "__main__":
    main()
