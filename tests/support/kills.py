"""Kills runs of indexing at random moments, and looks at what each leaves.

By hand, with many kills:

    PYTHONPATH=client:tests python -m support.kills --kills 50 --folder /tmp/kills
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from vireo_client.bundle import Bundle
from vireo_client.embedder import Embedder
from vireo_client.index import Index, IndexWriter, NewImage
from vireo_client.index.catalogue import CATALOGUE_FILE
from vireo_client.index.maintenance import verify
from vireo_client.index.writable import is_empty
from vireo_client.indexing import pipeline
from vireo_client.indexing.contents import read_images
from vireo_client.indexing.pipeline import index_images
from vireo_client.indexing.sources import list_images
from vireo_client.towers.onnx import OnnxTowers

from support.bundles import write_repository

BATCH = 4
_SAVE_SECONDS = 0.05
_PAUSE_SECONDS = 0.01

Held = dict[str, NewImage]


def write_photos(folder: Path, count: int, seed: int = 0) -> Path:
    """Write small images, every third with captions."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(count):
        pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((48, 48)).save(folder / f"{number:03d}.png")
        line: dict[str, object] = {"image": f"{number:03d}.png", "number": number}
        if number % 3 == 0:
            line["captions"] = [f"con cá {number}", f"ngôi nhà {number}"]
        lines.append(json.dumps(line))
    (folder / "captions.jsonl").write_text("\n".join(lines))
    return folder


def index_folder(photos: Path, index: Path, bundle: Bundle, added: Path | None = None) -> None:
    """Index a folder in small batches with many saves.

    Args:
        added: a file that grows by a byte for each image whose batch was added.
    """
    pipeline.SAVE_EVERY_SECONDS = _SAVE_SECONDS
    records, _ = list_images(photos)
    towers = OnnxTowers.from_repository(bundle, max_batch_size=BATCH)
    plain = towers.encode_image

    def slowly(pixels):
        time.sleep(_PAUSE_SECONDS)
        return plain(pixels)

    towers.encode_image = slowly  # type: ignore[method-assign]
    with Embedder(bundle, towers) as embedder, IndexWriter(index, bundle) as writer:
        if added is not None:
            add = writer.add

            def and_count(images):
                add(images)
                with added.open("ab") as file:
                    file.write(b"." * len(images))

            writer.add = and_count  # type: ignore[method-assign]
        index_images(writer, embedder, records, source=photos)


def held(index: Path, bundle: Bundle) -> Held:
    """Return all that an index holds, by path."""
    return {image.path: image for block in read_images(index, bundle) for image in block}


def check_whole(index: Path, bundle: Bundle, expected: Held, added: Path) -> int:
    """Check what a kill left: it is whole, belongs together, and nothing that was added is lost.

    Returns:
        The number of images that are there.
    """
    catalogue = index / CATALOGUE_FILE
    if is_empty(catalogue):
        assert not added.exists(), "images were added, and there is no index"
        return 0
    _check_verified(index)
    with IndexWriter(index, bundle) as writer:  # takes over what the journal holds
        count = len(writer)
        writer.save()
    promised = added.stat().st_size if added.exists() else 0
    assert count >= promised, f"{promised} images were added, {count} are there"
    _check_verified(index)
    check_same(held(index, bundle), expected, complete=False)
    with Index(index, bundle) as reader:
        assert len(reader) == count
    return count


def _check_verified(index: Path) -> None:
    problems = verify(index).problems
    assert not problems, problems


def check_same(found: Held, expected: Held, *, complete: bool = True) -> None:
    """Check that each image has the embedding, captions and fields that it should have."""
    assert found.keys() == expected.keys() if complete else found.keys() <= expected.keys()
    for path, image in found.items():
        wanted = expected[path]
        assert image.sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest(), path
        assert np.allclose(image.embedding, wanted.embedding, atol=1e-6), path
        assert (image.captions, image.stamp) == (wanted.captions, wanted.stamp), path
        assert dict(image.fields) == dict(wanted.fields), path
        if wanted.caption_embeddings is not None:
            assert np.allclose(image.caption_embeddings, wanted.caption_embeddings, atol=1e-6), path


def kill_runs(folder: Path, kills: int, *, photos: int = 60, seed: int = 0) -> dict[str, int]:
    """Kill that many runs at random moments; each index goes on until a run ends.

    Returns:
        How many runs were killed and ended, and how many kills left a part of the images.
    """
    source = write_photos(folder / "photos", photos)
    bundle = write_repository(folder / "model_repository")
    expected_index = folder / "expected"
    seconds = _run(partial(index_folder, source, expected_index, bundle))
    expected = held(expected_index, bundle)
    assert len(expected) == photos
    counts = {"killed": 0, "ended": 0, "partial": 0}
    moments = random.Random(seed)
    index, added = folder / "index-0", folder / "added-0"
    while counts["killed"] < kills:
        after = moments.uniform(0, seconds)
        if _run(partial(index_folder, source, index, bundle, added), kill_after=after):
            check_same(held(index, bundle), expected)
            counts["ended"] += 1
            number = counts["ended"]
            index, added = folder / f"index-{number}", folder / f"added-{number}"
            continue
        counts["killed"] += 1
        counts["partial"] += 0 < check_whole(index, bundle, expected, added) < photos
    _run(partial(index_folder, source, index, bundle, added))
    check_same(held(index, bundle), expected)
    return counts


def _run(work, kill_after: float | None = None) -> float:
    """Run `work` in a forked child.

    Returns:
        Its seconds; 0 if it was killed.
    """
    started = time.monotonic()
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(f"the run failed: {error!r}", file=sys.stderr)
            os._exit(1)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert kill_after is not None
        return 0
    assert not os.WEXITSTATUS(status), "the run failed"
    return time.monotonic() - started


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(
        json.dumps(
            kill_runs(options.folder, options.kills, photos=options.photos, seed=options.seed)
        )
    )
