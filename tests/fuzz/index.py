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
import hashlib
import json
import logging
import os
import random
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.files import damaged
from support.small_index import new_image, unit, write_small_bundle
from vireo_client.bundle import Bundle
from vireo_client.errors import VireoError
from vireo_client.index import Index, IndexWriter
from vireo_client.index import digests as catalogue_digests
from vireo_client.index.bundle_files import BUNDLE_FOLDER
from vireo_client.index.catalogue import CATALOGUE_FILE
from vireo_client.index.journal import JOURNAL_PREFIX
from vireo_client.index.kinds import SearchSettings
from vireo_client.index.maintenance import info, verify

SEEDS = Path(__file__).parent / "seeds" / "index"
SECONDS, MEGABYTES = 20, 512
"""Of one example; the seconds allow for a busy machine."""
KINDS = ("hnsw", "ivf", "ivfpq", "sq8", "fp16", "rabitq")
_ENOUGH = 1000
"""Embeddings that every structure can be built from."""
Answers = dict[str, Any]


def make(folder: Path, bundle: Bundle, kind: str) -> None:
    """Write the sound index: two segments, removed rows, captions, metadata, and a journal."""
    count = _ENOUGH if kind in ("ivf", "ivfpq", "rabitq") else 80
    with IndexWriter(folder, bundle) as writer:
        writer.add(
            [
                new_image(f"/p/{n}.jpg", n + 1, captions=n % 3)._replace(
                    fields={"make": "Canon", "note": f"ghi chú {n}", "iso": n}
                )
                for n in range(count)
            ]
        )
        writer.compact(kind, 0.9)
        writer.add([new_image(f"/p/{n}.jpg", n + 1, captions=1) for n in range(count, count + 5)])
        writer.remove([f"/p/{n}.jpg" for n in range(4)])
        writer.save()
    if os.fork():
        os.wait()
        return
    writer = IndexWriter(folder, bundle)  # as a killed one leaves it
    writer.add([new_image("/p/new.jpg", 9001, captions=1)])
    os._exit(0)


def ask(folder: Path, bundle: Bundle) -> Answers:
    """Return what an index answers to questions of every kind."""
    numbers = [*range(0, 80, 4), 82]
    queries = np.stack([unit(n + 1) for n in numbers])
    of_captions = np.stack([unit(1000 * (n + 1)) for n in numbers])
    with Index(folder, bundle) as index:
        found = {
            "count": [len(index), index.captions],
            "images": index.search_images(queries, 4),
            "exact": index.search_images(queries, 4, search=SearchSettings(exact=True)),
            "filtered": index.search_images(queries, 4, filter="iso < 40"),
            "captions": index.search_captions(of_captions, 3),
            "words": [index.search_words(text, 5) for text in ("ghi chú 7", "câu 1", "new")],
        }
        ids = sorted({int(i) for matches in found["exact"] for i in matches.ids})
        held = index.embeddings(ids)
        found["embeddings"] = [np.round(held[i], 4).tolist() for i in ids if i in held]
    return {
        name: [m.to_dicts() if hasattr(m, "to_dicts") else m for m in answer]
        for name, answer in found.items()
    }


def _rounded(answers: Answers) -> str:
    """Return answers as a text that does not hang on the last digits of a score."""
    return json.dumps(json.loads(json.dumps(answers), parse_float=lambda n: round(float(n), 3)))


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
        return "right" if sealed or _rounded(ask(folder, bundle)) in right else "other answers"

    def write() -> str:
        before = _stored(folder)
        try:
            with IndexWriter(folder, bundle) as writer:
                writer.save()
        except VireoError:
            if before - _stored(folder):
                return "removed files of an index that it refused"
            raise
        return "right" if sealed or _rounded(ask(folder, bundle)) in right else "other answers"

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


def damage_catalogue(folder: Path, chance: random.Random) -> bool:
    """Damage bytes of the catalogue, or change rows; return whether the change is sealed."""
    path = folder / CATALOGUE_FILE
    if chance.random() < 0.5:
        path.write_bytes(damaged(path.read_bytes(), chance))
        return False
    sealed = chance.random() < 0.5
    db = sqlite3.connect(path, isolation_level=None)
    try:
        for _ in range(chance.randint(1, 3)):
            _change_rows(db, chance)
        if sealed:
            catalogue_digests.seal(db)
            value = catalogue_digests.of_tables(db)
            db.execute("UPDATE meta SET value = ? WHERE key = 'digest'", (value,))
    except (sqlite3.Error, UnicodeError, OverflowError):
        sealed = False  # what was changed cannot be sealed any more, or not be made
    finally:
        db.close()
    return sealed


_VALUES: tuple[Any, ...] = (
    None, "", "x", "[]", "{}", "null", "1e999", -1, 0, 1, 2, 3, 85, 10**6, 2**31, 2**63 - 1,
    -(2**63), 1.5, float("inf"), b"\xff\xfe", b"", "../../etc/passwd", "/etc/passwd", "\x1b[31m",
    "\0", "9" * 5000, "[" * 3000, '{"a": [1, "b"]}', "flat", "hnsw", "ivfpq", "images",
    "captions", "x" * 10**6,
)  # fmt: skip


def _change_rows(db: sqlite3.Connection, chance: random.Random) -> None:
    tables = ["meta", "images", "captions", "segments", "removed", "fields", "columns"]
    table = chance.choice(tables)
    names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    if not names:  # it was dropped before
        return
    column = chance.choice(names)
    one = f"WHERE ({', '.join(names[:2])}) = (SELECT {', '.join(names[:2])} FROM {table} "
    one += f"LIMIT 1 OFFSET {chance.randrange(9)})"
    where = chance.choice(("", one, one, one))
    kind = chance.randrange(8)
    if kind == 0:
        db.execute(f"DELETE FROM {table} {where}")
    elif kind == 1:
        db.execute(f"DROP TABLE {chance.choice([*tables, 'words', 'word_counts'])}")
    elif kind == 2:
        db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    elif kind == 3:
        db.execute(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table} {where}")
    elif kind == 4:
        other = chance.choice(names)
        db.execute(f"UPDATE OR IGNORE {table} SET {column} = {other} {where}")
    else:
        value = chance.choice(_VALUES)
        db.execute(f"UPDATE OR IGNORE {table} SET {column} = ? {where}", (value,))


def damage_segments(folder: Path, chance: random.Random) -> bool:
    """Damage a file of a segment; sealed, where the catalogue has the damaged one's checksum."""
    path = chance.choice(sorted((folder / "segments").iterdir()))
    data = path.read_bytes()
    if chance.random() < 0.05:
        other = chance.choice(sorted((folder / "segments").iterdir()))
        changed = other.read_bytes()
    elif chance.random() < 0.5:
        # Of the same size: what a size does not show.
        changed = bytearray(data)
        for _ in range(chance.randint(1, 6)):
            start = chance.randrange(min(len(data), chance.choice((160, len(data)))))
            value = chance.choice((b"\xff" * 8, b"\0" * 8, chance.randbytes(chance.choice((1, 4)))))
            changed[start : start + len(value)] = value
        changed = bytes(changed[: len(data)])
    else:
        changed = damaged(data, chance)
    path.write_bytes(changed)
    sealed = chance.random() < 0.5
    if sealed:
        noted = (len(changed), hashlib.sha256(changed).hexdigest())
        db = sqlite3.connect(folder / CATALOGUE_FILE, isolation_level=None)
        for name, files in db.execute("SELECT name, files FROM segments").fetchall():
            by_name = json.loads(files)
            if path.name in by_name:
                by_name[path.name] = noted
                db.execute(
                    "UPDATE segments SET files = ? WHERE name = ?", (json.dumps(by_name), name)
                )
        value = catalogue_digests.of_tables(db)
        db.execute("UPDATE meta SET value = ? WHERE key = 'digest'", (value,))
        db.close()
    return sealed


def damage_journal(folder: Path, chance: random.Random) -> bool:
    """Damage the journal of a killed writer; sealed, where its records have right checksums."""
    (path,) = folder.glob(f"{JOURNAL_PREFIX}*.bin")
    data = path.read_bytes()
    sealed = chance.random() < 0.5
    if sealed:  # one record behind the magic
        payload = damaged(data[20:], chance)
        data = data[:8] + len(payload).to_bytes(8, "little")
        path.write_bytes(data + zlib.crc32(payload).to_bytes(4, "little") + payload)
    else:
        path.write_bytes(damaged(data, chance))
    return sealed


DAMAGES: dict[str, Callable[[Path, random.Random], bool]] = {
    "catalogue": damage_catalogue,
    "segments": damage_segments,
    "journal": damage_journal,
}


class Sound:
    """A sound index of one kind, its bundle, and the answers that are right."""

    def __init__(self, place: Path, kind: str) -> None:
        self.kind, self.folder = kind, place / kind
        self.bundle = write_small_bundle(place / "model_repository")
        make(self.folder, self.bundle, kind)
        again = place / f"{kind}-again"
        shutil.copytree(self.folder, again)
        # Before and after a writer took the journal over: it may be lost, but not half of it.
        self.right = [_rounded(ask(self.folder, self.bundle))]
        with IndexWriter(again, self.bundle):
            pass
        self.right.append(_rounded(ask(again, self.bundle)))
        shutil.rmtree(again)


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
