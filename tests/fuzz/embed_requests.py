"""Fuzz a server's requests: `python tests/fuzz/embed_requests.py text REPOSITORY --seconds 600`.

Each example is one request of made-up texts, or of damaged images, to a running Triton over gRPC.
Whatever comes, the server must answer it or refuse it as the caller's fault (INVALID_ARGUMENT)
within seconds, say nothing of its own folders, and then answer a good request. An example that
does not is printed, and kept in the folder of seeds, which is read first at the next run.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpc
from PIL import Image
from tritonclient.utils import InferenceServerException
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer

SEEDS = Path(__file__).parent / "seeds"
SECONDS = 10.0
"""Of one request; the seconds allow for a busy machine."""
INPUTS = {"text": ("embed_text", "text"), "image": ("embed_image", "image")}
_WORDS = ["con cá", "đỏ", "a.", "1/2/", "http://a", "@", "-", "Ă", "\u0301" * 9, "\u200b", "😀",
          "<s>", "</s>", "<mask>", "[UNK]", "_", "\0", "\ufeff", "\u202e", "ﬁ", "İ"]  # fmt: skip
_KINDS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "ICO", "PPM", "TGA", "PCX", "JPEG2000")


def texts(chance: random.Random) -> Iterator[bytes]:
    for _ in range(chance.choice((1, 1, 2, 16, 64))):
        kind = chance.randrange(4)
        if kind == 0:
            yield chance.randbytes(chance.choice((0, 1, 5, 300, 5000)))
        elif kind == 1:
            yield (chance.choice(_WORDS) * chance.choice((1, 10, 1000))).encode()[:4096]
        elif kind == 2:
            words = (chance.choice(_WORDS) for _ in range(chance.choice((1, 5, 100))))
            yield " ".join(words).encode()
        else:
            letters = (chr(chance.choice((chance.randrange(0xD800), ord("a")))) for _ in range(99))
            yield "".join(letters).encode()


def images(chance: random.Random) -> Iterator[bytes]:
    for _ in range(chance.choice((1, 1, 2, 8))):
        size = chance.choice(((1, 1), (64, 48), (300, 200), (1, 5000)))
        mode = chance.choice(("RGB", "L", "1", "P", "RGBA", "CMYK", "I;16"))
        kind = chance.choice(_KINDS)
        buffer = io.BytesIO()
        try:
            Image.effect_noise(size, 50).convert(mode).save(buffer, kind)
        except (OSError, ValueError, KeyError):  # not every format has every mode
            Image.effect_noise(size, 50).save(buffer, "PNG")
        data = bytearray(buffer.getvalue())
        for _ in range(chance.choice((0, 1, 4, 20))):
            start = chance.randrange(len(data) + 1)
            change = chance.randrange(4)
            if change == 0:
                data[start : start + 4] = chance.randbytes(4)
            elif change == 1:
                del data[start : start + chance.choice((1, 100))]
            elif change == 2:
                data[start : start + 4] = b"\xff\xff\xff\x7f"
            else:
                data[start:start] = data[: chance.choice((1, 100, 1000))]
        yield bytes(data)


def send(client: grpc.InferenceServerClient, kind: str, rows: list[bytes]) -> str | None:
    """Send one request; return what is wrong with its answer, or None."""
    model, name = INPUTS[kind]
    tensor = grpc.InferInput(name, [len(rows), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[row] for row in rows], dtype=object))
    started = time.monotonic()
    try:
        found = client.infer(model, [tensor], client_timeout=120).as_numpy("embedding")
    except InferenceServerException as error:
        if error.status() != "StatusCode.INVALID_ARGUMENT":
            return f"{error.status()}: {error.message()}"
        if "/" in error.message() and "/tmp" in error.message():
            return f"says where it lies: {error.message()}"
    else:
        length = np.linalg.norm(found, axis=1)
        if found.shape[0] != len(rows) or not np.allclose(length, 1, atol=1e-3):
            return f"an answer of shape {found.shape} and lengths {length}"
    seconds = time.monotonic() - started
    return f"took {seconds:.1f} s" if seconds > SECONDS else None


def main() -> None:
    parser = argparse.ArgumentParser(description="fuzz a server's requests")
    parser.add_argument("kind", choices=INPUTS)
    parser.add_argument("repository", type=Path)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    make = texts if given.kind == "text" else images
    good = ["con cá".encode()] if given.kind == "text" else [_photo()]
    waiting = [_rows(file) for file in sorted(SEEDS.glob(f"{given.kind}/*"))]
    tried = failed = 0
    with TritonServer(given.repository, ports=Ports(0, 0, 0)) as server:
        client = grpc.InferenceServerClient(server.url)
        end = time.monotonic() + given.seconds
        while time.monotonic() < end:
            rows = waiting.pop() if waiting else list(make(chance))
            tried += 1
            wrong = send(client, given.kind, rows) or send(client, given.kind, good)
            if server.poll() is not None:
                wrong = f"Triton ended: {server.error(last=True)}"
            if wrong is not None:
                failed += 1
                kept = SEEDS / given.kind / f"{given.seed}_{tried}"
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps([row.hex() for row in rows]))
                print(f"{kept}: {wrong[:2000]}", file=sys.stderr)
            if server.poll() is not None:
                break
    print(f"{given.kind}: {tried} requests in {given.seconds:.0f} s, {failed} failed")
    sys.exit(failed > 0)


def _rows(file: Path) -> list[bytes]:
    return [bytes.fromhex(row) for row in json.loads(file.read_text())]


def _photo() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 50).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


if __name__ == "__main__":
    main()
