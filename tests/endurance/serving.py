"""A real Triton: poisoned batches beside good clients, restricted protocols, and TLS."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException
from vireo_client.bundle import Bundle
from vireo_client.errors import ServerError
from vireo_client.towers.tls import ClientTls
from vireo_client.towers.triton import TritonTowers
from vireo_serving.server.options import ServerOptions, ServerTls
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer

FREE = Ports(0, 0, 0)
_THREADS = 4
_GOOD = ["con cá màu đỏ", "hai con chim", "ngôi nhà", "bông hoa"]


def poison(bundle: Bundle, requests: int) -> Counter[str]:
    """Send poisoned requests beside good ones, which Triton joins to batches.

    Args:
        bundle: the repository to serve.
        requests: the good ones; there are as many poisoned ones.

    Returns:
        How many good requests got their own vector (`right`), how many poisoned ones were
        `refused`, and what went otherwise.
    """
    seen: list[str] = []  # threads may append to a list, but not count together
    vocab = bundle.config.text.vocab_size
    with TritonServer(bundle.folder, ports=FREE) as server:
        alone = {text: _embed(server.url, text.encode()) for text in _GOOD}

        def good(number: int) -> None:
            with _client(server.url) as client:
                for turn in range(requests // _THREADS):
                    text = _GOOD[(number + turn) % len(_GOOD)]
                    try:
                        same = np.allclose(_text(client, text.encode()), alone[text], atol=1e-4)
                        seen.append("right" if same else "WRONG VECTOR")
                    except Exception as error:
                        seen.append(f"GOOD ONE FAILED: {error}"[:90])

        def bad(number: int) -> None:
            poisons = _poisons(vocab)
            with _client(server.url) as client:
                for turn in range(requests // _THREADS):
                    try:
                        poisons[(number + turn) % len(poisons)](client)
                        seen.append("POISON ANSWERED")
                    except InferenceServerException as error:
                        refused = error.status() == "StatusCode.INVALID_ARGUMENT"
                        seen.append("refused" if refused else str(error)[:90])

        threads = [
            threading.Thread(target=work, args=(number,))
            for number in range(_THREADS)
            for work in (good, bad)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen += ["server ended"] * (server.poll() is not None)
    return Counter(seen)


def _client(url: str) -> grpc.InferenceServerClient:
    return grpc.InferenceServerClient(url)


def _infer(
    client: grpc.InferenceServerClient, model: str, name: str, values: np.ndarray, type_: str
) -> np.ndarray:
    tensor = grpc.InferInput(name, list(values.shape), type_)
    tensor.set_data_from_numpy(values)
    return client.infer(model, [tensor], client_timeout=120).as_numpy("embedding")


def _text(client: grpc.InferenceServerClient, text: bytes) -> np.ndarray:
    return _infer(client, "embed_text", "text", np.array([[text]], dtype=object), "BYTES")


def _embed(url: str, text: bytes) -> np.ndarray:
    with _client(url) as client:
        return _text(client, text)


def _poisons(vocab: int) -> list[Callable[[grpc.InferenceServerClient], object]]:
    """Return requests that must be refused: text, images, ids, shapes and types."""
    image = np.array([[b"no image"]], dtype=object)
    cut = np.array([[b"\xff\xd8\xff\xe0" + bytes(100)]], dtype=object)
    return [
        lambda c: _text(c, b"\xff\xfe"),
        lambda c: _text(c, b"a." * 4096),
        lambda c: _infer(c, "embed_image", "image", image, "BYTES"),
        lambda c: _infer(c, "embed_image", "image", cut, "BYTES"),
        lambda c: _infer(
            c, "text_encoder", "input_ids", np.full((1, 16), vocab + 9, np.int32), "INT32"
        ),
        lambda c: _infer(c, "text_encoder", "input_ids", np.full((1, 16), -1, np.int32), "INT32"),
        lambda c: _infer(c, "text_encoder", "input_ids", np.empty((1, 0), np.int32), "INT32"),
        lambda c: _infer(c, "image_encoder", "pixels", np.zeros((1, 3, 5, 7), np.uint8), "UINT8"),
    ]


def call_restricted(bundle: Bundle) -> Counter[str]:
    """Call what needs the key, over gRPC and HTTP, without it and with a wrong one: 24 calls."""
    counts: Counter[str] = Counter()
    with TritonServer(bundle.folder, ports=FREE) as server, _client(server.url) as client:
        for key in (None, server.options.admin_key[:-1] + "x"):
            headers = {"triton-grpc-protocol-vireo-admin-key": key} if key else None
            calls: list[Callable[[], object]] = [
                lambda h=headers: client.load_model("embed_text", headers=h),
                lambda h=headers: client.unload_model("embed_text", headers=h),
                lambda h=headers: client.get_model_repository_index(headers=h),
                lambda h=headers: client.get_system_shared_memory_status(headers=h),
                lambda h=headers: client.update_trace_settings(
                    settings={"trace_rate": "1"}, headers=h
                ),
                lambda h=headers: client.update_log_settings({"log_verbose_level": 1}, headers=h),
            ]
            for call in calls:
                try:
                    call()
                    counts["gRPC: ADMITTED"] += 1
                except InferenceServerException as error:
                    counts["gRPC: refused" if "restricted" in str(error) else str(error)] += 1
            for method, path in (
                ("POST", "repository/models/embed_text/load"),
                ("POST", "repository/models/embed_text/unload"),
                ("POST", "repository/index"),
                ("GET", "systemsharedmemory/status"),
                ("POST", "trace/setting"),
                ("POST", "logging"),
            ):
                request = urllib.request.Request(
                    f"{server.http_url}/v2/{path}", b"{}" if method == "POST" else None,
                    {"vireo-admin-key": key} if key else {}, method=method,
                )  # fmt: skip
                try:
                    urllib.request.urlopen(request, timeout=60).close()
                    counts["HTTP: ADMITTED"] += 1
                except urllib.error.HTTPError as error:
                    counts["HTTP: refused" if error.code == 403 else f"HTTP: {error.code}"] += 1
        assert _text(client, b"con ca").shape[0] == 1  # and nobody else needs a key
    return counts


def refuse_tls(bundle: Bundle, certificates: Path) -> Counter[str]:
    """Connect to servers with TLS, mutual TLS and without in nine ways that must be refused."""
    ca, other = certificates / "ca.pem", certificates / "other.pem"
    counts: Counter[str] = Counter()

    def refused(what: Callable[[], object]) -> None:
        try:
            what()
            counts["ADMITTED"] += 1
        except ServerError:
            counts["refused"] += 1

    def connect(url: str, tls: ClientTls | None) -> None:
        towers = TritonTowers(bundle, url, tls=tls, connect_timeout=3)
        towers.encode_text(np.full((1, 16), 5, dtype=np.int32))

    tls = ServerTls(certificates / "server.pem", certificates / "server.key")
    with TritonServer(bundle.folder, ports=FREE, options=ServerOptions(tls=tls)) as server:
        connect(server.url, ClientTls(ca))
        refused(lambda: connect(server.url, ClientTls(other)))
        refused(lambda: connect(server.url, ClientTls()))  # this machine's own authorities
        refused(lambda: connect(server.url.removeprefix("grpcs://"), None))
    mutual = ServerOptions(tls=replace(tls, client_ca=ca))
    known = ClientTls(ca, certificates / "client.pem", certificates / "client.key")
    strange = ClientTls(ca, other, certificates / "other.key")
    with TritonServer(bundle.folder, ports=FREE, options=mutual) as server:
        connect(server.url, known)
        refused(lambda: connect(server.url, ClientTls(ca)))
        refused(lambda: connect(server.url, strange))
        refused(lambda: connect(server.url.removeprefix("grpcs://"), None))
    with TritonServer(bundle.folder, ports=FREE) as server:
        refused(lambda: connect(f"grpcs://{server.url}", ClientTls(ca)))
    refused(lambda: ServerTls(certificates / "server.pem", certificates / "gone.key"))
    refused(lambda: ClientTls(ca, certificates / "client.pem").channel_arguments())
    return counts
