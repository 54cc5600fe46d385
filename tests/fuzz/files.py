"""Fuzz the files that travel: `python tests/fuzz/files.py bundle --seconds 600`.

Each example damages a small sound file, or makes one up, and reads it. Whatever comes, the reader
must answer with records, skips or a `VireoError`, within a second and 256 MB. An example that does
not is printed, and kept in the folder of seeds, which is read first at the next run.

Not collected by pytest: `tests/fuzz/seeds/` are, see `test_seeds.py`.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import json
import logging
import random
import sys
import tarfile
import tempfile
import time
import traceback
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from vireo_client.bundle import read_bundle_config
from vireo_client.captions import read_captions
from vireo_client.errors import VireoError
from vireo_client.repository import read_versions
from vireo_serving.configs.triton_config import read_config
from vireo_training.readers import read_data

SEEDS = Path(__file__).parent / "seeds"
SECONDS, BYTES = 5.0, 256 << 20
"""Of one example; the seconds allow for a busy machine."""

_TOKENS = [
    b"\0", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r\n", b"\\ud800", b'"', b"'",
    b"[" * 2000, b"{" * 2000, b"9" * 5000, b"-1", b"1e999", b"NaN", b"null", b"[]", b"{}", b'""',
    b"../", b"/etc/passwd", b"\x1b[31m", b"%s", b"=1+1", b",", b"\t", b"|", b";", b"\\", b"image",
    b"caption", b"\xf0\x9f\x98\x80", b"\xcc\x81" * 50,
]  # fmt: skip

BUNDLE = {
    "schema_version": 1, "bundle_id": "0123456789abcdef", "embedding_dim": 8,
    "image": {"size": 8, "resize": 8, "mean": [0.5] * 3, "std": [0.5] * 3},
    "text": {
        "normalization": "vietnamese-1", "segmenter": "pyvi", "pad_id": 0, "vocab_size": 9,
        "buckets": [4, 8],
    },
    "model": {"image": {"name": "resnet10t", "kwargs": {}}},
}  # fmt: skip


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "JPEG")
    return buffer.getvalue()


def _tar(mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        long = "d" * 120 + "/2.json"  # a name that needs a header of its own
        for name, data in (
            ("1.jpg", _jpeg()), ("1.txt", "một\nhai".encode()),
            ("d" * 120 + "/2.jpg", _jpeg()), (long, b'{"caption": "ba", "split": "test"}'),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    table = pa.table({"image": [_jpeg(), None], "caption": [["một", "hai"], ["ba"]]})
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _lines(*records: object) -> bytes:
    return "\n".join(json.dumps(record, ensure_ascii=False) for record in records).encode()


SOUND: dict[str, dict[str, Callable[[], bytes]]] = {
    "bundle": {
        "bundle.json": lambda: json.dumps(BUNDLE).encode(),
        "versions.json": lambda: b'{"current": 2, "kept": [1, 2]}',
        "config.pbtxt": lambda: b'name: "a"\nbackend: "python"\ninput [{name: "x" dims: [1]}]\n',
    },
    "captions": {
        "captions.jsonl": lambda: _lines(
            {"image": "a.jpg", "captions": ["một", "hai"], "split": "train"},
            {"file_name": "b.jpg", "caption": "ba"},
        ),
        "coco.json": lambda: _lines(
            {
                "images": [{"id": 1, "file_name": "a.jpg"}],
                "annotations": [{"image_id": 1, "caption": "một"}],
            }
        ),
        "map.json": lambda: _lines({"a.jpg": {"captions": ["một"]}, "b.jpg": {"captions": ["ba"]}}),
        "list.json": lambda: _lines([{"file_name": "a.jpg", "caption": "một"}]),
    },
    "table": {
        "x.csv": lambda: 'image,caption,split\na.jpg,"một, hai",train\nb.jpg,ba,test\n'.encode(),
        "x.tsv": lambda: "image\tcaption\na.jpg\t['một', 'hai']\n".encode(),
        "x.token": lambda: "a.jpg#0\tmột\nb.jpg#0\thai\n".encode(),
    },
    "tar": {"x.tar": _tar, "x.tar.gz": lambda: _tar("w:gz")},
    "parquet": {"x.parquet": _parquet},
}
"""Small sound files of each kind, by file name."""


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Return `data` after one to eight changes of some bytes."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        start = chance.randrange(len(changed) + 1)
        length = chance.choice((0, 1, 2, 4, 8, 40, 512))
        kind = chance.randrange(6)
        if kind == 0:
            changed[start : start + length] = chance.randbytes(length)
        elif kind == 1:
            changed[start : start + length] = chance.choice(_TOKENS)
        elif kind == 2:
            del changed[start : start + length]
        elif kind == 3:
            changed[start:start] = changed[start : start + length]
        elif kind == 4 and start < len(changed):
            changed[start] ^= 1 << chance.randrange(8)
        else:
            # A tar's header has a checksum; without a right one nothing behind it is read.
            header = start // 512 * 512
            _sign(changed, header)
    return bytes(changed)


def _sign(data: bytearray, header: int) -> None:
    block = data[header : header + 512]
    if len(block) == 512:
        block[148:156] = b" " * 8
        data[header + 148 : header + 156] = b"%06o\0 " % sum(block)


def read(name: str, folder: Path) -> None:
    """Read the file `name` of `folder` as a user's command would."""
    if name == "bundle.json":
        read_bundle_config(folder)
    elif name == "versions.json":
        read_versions(folder)
    elif name == "config.pbtxt":
        read_config(folder / name)
    elif name == "captions.jsonl":
        read_captions(folder)
    else:
        read_data(folder / name)


def try_example(name: str, data: bytes) -> str | None:
    """Read one example; return what is wrong with how it went, or None."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for image in ("a.jpg", "b.jpg"):
            (folder / image).write_bytes(_jpeg())
        (folder / name).write_bytes(data)
        tracemalloc.start()
        started = time.monotonic()
        try:
            read(name, folder)
        except VireoError:
            pass
        except BaseException:
            return traceback.format_exc()
        finally:
            seconds, peak = time.monotonic() - started, tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    if seconds > SECONDS:
        return f"took {seconds:.1f} s"
    return f"took {peak >> 20} MB" if peak > BYTES else None


def main() -> None:
    parser = argparse.ArgumentParser(description="fuzz the readers of files that travel")
    parser.add_argument("kind", choices=SOUND)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    faulthandler.enable()
    logging.disable()  # readers warn of much that is wrong here
    chance = random.Random(given.seed)
    sound = {name: make() for name, make in SOUND[given.kind].items()}
    pool = {name: [data] for name, data in sound.items()}
    for seed in sorted(SEEDS.glob(f"{given.kind}/*")):
        name = seed.name.partition("-")[2]
        pool[name].append(seed.read_bytes())
    tried = failed = 0
    end = time.monotonic() + given.seconds
    while time.monotonic() < end:
        name = chance.choice([*pool])
        data = damaged(chance.choice(pool[name]), chance)
        tried += 1
        # Written before it is read: an example may end the process.
        last = Path(tempfile.gettempdir()) / f"vireo-fuzz-{given.kind}"
        last.write_bytes(data)
        if (wrong := try_example(name, data)) is not None:
            failed += 1
            kept = SEEDS / given.kind / f"{given.seed}_{tried}-{name}"
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(data)
            print(f"{kept}: {wrong}", file=sys.stderr)
    print(f"{given.kind}: {tried} examples in {given.seconds:.0f} s, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
