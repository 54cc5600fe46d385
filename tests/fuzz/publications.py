"""Publish and roll back at random under load: `python tests/fuzz/publications.py REPOSITORY`.

Four clients embed texts without a pause while versions of one bundle are published, damaged ones
are, and older ones are rolled back to. Every request must be answered, with the one right vector.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpc
from vireo_client.bundle import Bundle
from vireo_client.errors import BundleError
from vireo_client.files import replacing
from vireo_client.repository import MODELS, PARITY_FILE, current_version, read_versions
from vireo_serving.configs.triton_config import ServingOptions
from vireo_serving.repository.publish import publishing, write_repository
from vireo_serving.repository.rollback import rollback
from vireo_serving.server import watch
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer


def publish(source: Path, repository: Path) -> None:
    """Publish the engines of `source` as the next version."""
    version = str(current_version(source))
    with publishing(repository, keep=3) as draft:
        (draft / PARITY_FILE).write_text("{}")
        engines = {}
        for model in MODELS:
            for file in (source / model / version).glob("model.onnx*"):
                shutil.copyfile(file, draft / file.name.replace("model.onnx", f"{model}.onnx"))
            engines[model] = draft / f"{model}.onnx"
        write_repository(draft, Bundle(source), engines, ServingOptions())


def damage(repository: Path, chance: random.Random) -> None:
    """Publish a copy with one spoilt file."""
    with replacing(repository, marker=PARITY_FILE) as draft:
        shutil.copytree(repository, draft, dirs_exist_ok=True)
        path = chance.choice([*sorted(draft.glob("*/config.pbtxt")), draft / "bundle.json"])
        data = bytearray(path.read_bytes())
        data[chance.randrange(len(data))] ^= 0x80
        path.write_bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(description="publish and roll back at random under load")
    parser.add_argument("repository", type=Path)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    stop = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models"
        publish(given.repository, repository)
        with TritonServer(repository, ports=Ports(0, 0, 0)) as server:
            first = _embed(grpc.InferenceServerClient(server.url))

            def load() -> None:
                client = grpc.InferenceServerClient(server.url)
                while not stop.is_set():
                    try:
                        if not np.allclose(_embed(client), first, atol=1e-5):
                            wrong.append("another vector")
                        counts["answers"] += 1
                    except Exception as error:
                        wrong.append(repr(error))

            def serve() -> None:
                reload = watch._Reload(server, lambda _: counts.update(reloads=1))
                while not stop.is_set():
                    if reload.is_due(True):
                        reload.run()
                    time.sleep(0.05)

            threads = [threading.Thread(target=work) for work in (load, load, load, load, serve)]
            for thread in threads:
                thread.start()
            end = time.monotonic() + given.seconds
            while time.monotonic() < end:
                what = chance.choice(("publish", "rollback", "damage"))
                try:
                    if what == "publish":
                        publish(given.repository, repository)
                    elif what == "rollback":
                        kept = [*read_versions(repository).kept]
                        rollback(repository, chance.choice(kept))
                    else:
                        damage(repository, chance)
                        time.sleep(0.5)
                        publish(given.repository, repository)
                    counts[what] += 1
                except BundleError:
                    counts["nothing to go back to"] += 1
                time.sleep(chance.random())
            stop.set()
            for thread in threads:
                thread.join()
            if server.poll() is not None:
                wrong.append(f"Triton ended: {server.error(last=True)}")
        left = [name for name in os.listdir(folder) if name != "models"]
    print(f"{dict(counts)} in {given.seconds:.0f} s; wrong: {len(wrong)} {wrong[:3]}; left: {left}")
    sys.exit(bool(wrong or left))


def _embed(client: grpc.InferenceServerClient) -> np.ndarray:
    tensor = grpc.InferInput("text", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([["hai con cá".encode()]], dtype=object))
    return client.infer("embed_text", [tensor], client_timeout=60).as_numpy("embedding")


if __name__ == "__main__":
    main()
