"""Publications taken over by a running Triton, under load and when they are bad."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc
from support.processes import start
from support.publications import Requests, republish
from support.tagged_versions import answer_tags, publish, write_model_files
from support.waiting import wait_until
from tritonclient.utils import InferenceServerException
from vireo_client.bundle import Bundle
from vireo_client.embedder import Embedder
from vireo_client.errors import BundleError, ServerError
from vireo_client.images import load_pixels
from vireo_client.repository import MODELS
from vireo_client.towers.onnx import OnnxTowers
from vireo_client.towers.triton import TritonTowers
from vireo_serving.configs.triton_config import read_config, write_config
from vireo_serving.models import files
from vireo_serving.reload import publication as publication_module
from vireo_serving.reload.folder import ServingFolder
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer

FREE = Ports(0, 0, 0)
CLIENTS = 8


@pytest.fixture(scope="module")
def model_files(tmp_path_factory):
    """The folder of model files that answer with tags."""
    return write_model_files(tmp_path_factory.mktemp("model_files") / "models")


@pytest.fixture
def tagged(tmp_path, bundle, model_files, monkeypatch):
    """A server of a repository whose answers show which publication computed them."""
    monkeypatch.setattr(files, "FOLDER", model_files)
    repository = tmp_path / "tagged"
    publish(repository, bundle, 1)
    with TritonServer(repository, ports=FREE) as server:
        yield server


@contextmanager
def clients(server, request):
    """Eight threads that call `request(client, number)` until they fail; yields their answers.

    All have had an answer before the block begins.
    """
    got: Counter = Counter()
    failures: list[Exception] = []
    stop = threading.Event()

    answered: set[int] = set()

    def work(number):
        client = grpc.InferenceServerClient(server.url)
        while not stop.is_set():
            try:
                got[request(client, number)] += 1
                answered.add(number)
            except Exception as error:
                failures.append(error)
                break
        client.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: failures or len(answered) == CLIENTS)
        yield got, failures
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _names(server):
    return {entry["name"] for entry in server._admin.index() if entry.get("state") == "READY"}


def test_no_request_is_lost_and_no_answer_is_mixed(tagged, bundle):
    """Each publication has another signature inside, so that a mixture would also fail."""

    def request(client, number):
        return answer_tags(client, ("embed_text", "embed_image")[number % 2])

    with clients(tagged, request) as (got, failures):
        for tag in range(2, 7):
            publish(tagged.repository, bundle, tag, width=3 + tag % 2)
            assert tagged.reload().bundle_id == f"tagged-version-{tag:04}"
            wait_until(lambda tag=tag: failures or got[tag, tag])
    assert failures == []
    assert set(got) == {(n, n) for n in range(1, 7)}
    assert {name for name in _names(tagged) if "@" in name} == {
        f"{name}@6" for name in ("preprocess_text", "preprocess_image", *MODELS)
    }


@pytest.fixture
def own(repository, tmp_path):
    """A copy of the exported repository, to publish to."""
    return Bundle(shutil.copytree(repository.folder, tmp_path / "models"))


def test_every_answer_is_the_old_or_the_new_vector(own, test_records):
    """All that a service can call; every second publication answers the opposite."""
    record = test_records[0]
    image = record.path.read_bytes()
    text = record.captions[0]
    with Embedder(own, OnnxTowers.from_repository(own)) as embedder:
        vectors = {"text": embedder.embed_texts([text])[0],
                   "image": embedder.embed_images([image])[0]}  # fmt: skip
        ((_, ids),) = embedder.text_path.encode([text])
    requests = Requests(text, image, ids, load_pixels(image, own.config.image)[None])

    def request(client, number):
        name = requests.names[number % len(requests.names)]
        vector = requests.send(client, name)
        expected = vectors["text" if "text" in name else "image"]
        return name, tuple(s for s in (1, -1) if np.allclose(vector, s * expected, atol=1e-5))

    repository = own.folder.parent / "published"
    republish(own.folder, repository, 1, "bundle-0001", negated=False)
    with TritonServer(repository, ports=FREE) as server:
        with clients(server, request) as (got, failures):
            for version in (2, 3, 4):
                bundle_id = f"bundle-{version:04}"
                republish(own.folder, repository, version, bundle_id, negated=version % 2 == 0)
                server.reload()
                sign = (-1,) if version % 2 == 0 else (1,)
                wait_until(lambda s=sign: failures or all(got[n, s] for n in requests.names))
        client = grpc.InferenceServerClient(server.url)
        for name in requests.names:
            served = client.get_model_config(name).config
            assert served.parameters["bundle_id"].string_value == "bundle-0004"
            assert client.get_model_metadata(name).versions == ["4"]
            assert request(client, requests.names.index(name)) == (name, (-1,))
    assert failures == []
    assert set(got) == {(name, (sign,)) for name in requests.names for sign in (1, -1)}


def test_a_client_goes_on_with_the_same_bundle_and_stops_at_another(own):
    ids = np.full((2, 16), 5, dtype=np.int32)
    with TritonServer(own.folder, ports=FREE) as server:
        towers = TritonTowers(Bundle(own.folder), server.url)
        expected = towers.encode_text(ids)
        republish(own.folder, own.folder, 2, own.bundle_id, negated=False)
        server.reload()
        assert np.allclose(towers.encode_text(ids), expected, atol=1e-6)
        republish(own.folder, own.folder, 3, "another-bundle", negated=True)
        server.reload()
        for _ in range(2):
            with pytest.raises(
                ServerError, match=r"is now of bundle another-bundle, but .* open the new one"
            ):
                towers.encode_text(ids)
        another = TritonTowers(Bundle(own.folder), server.url)
        assert np.allclose(another.encode_text(ids), -expected, atol=1e-5)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("image_encoder", r"'image_encoder@2'.*no room"),
        ("preprocess_text", r"'preprocess_text@2'.*no room"),
        ("embed_image", r"embed_image@2.*inconsistent shape"),
    ],
)
def test_what_does_not_load_changes_nothing(tagged, bundle, broken, reason):
    before = _names(tagged)
    with clients(tagged, lambda client, n: answer_tags(client, "embed_image")) as (got, failures):
        publish(tagged.repository, bundle, 2, broken=broken)
        with pytest.raises(ServerError, match=rf"not reloaded: .*{reason}") as error:
            tagged.reload()
        assert "\n" not in str(error.value)
        assert "-server-" not in str(error.value)  # the server's own copy is nobody's business
    assert failures == []
    assert set(got) == {(1, 1)}
    assert _names(tagged) == before
    assert tagged.publication.bundle_id == "tagged-version-0001"
    assert not tagged.changed()  # it is not tried again before the repository changes
    publish(tagged.repository, bundle, 3)
    assert tagged.changed()
    assert tagged.reload().bundle_id == "tagged-version-0003"


def test_what_fails_half_way_is_turned_back(tagged, bundle, monkeypatch):
    """The second name that is turned fails: the first one returns to the old publication."""
    load = tagged._admin.load

    def fail_once(name):
        if name == "image_encoder" and "failed" not in done:
            done.append("failed")
            raise ServerError("out of memory")
        done.append(name)
        load(name)

    done: list[str] = []
    monkeypatch.setattr(tagged._admin, "load", fail_once)
    before = _names(tagged)
    with clients(tagged, lambda client, n: answer_tags(client, "embed_text")) as (got, failures):
        publish(tagged.repository, bundle, 2)
        with pytest.raises(ServerError, match="out of memory"):
            tagged.reload()
    assert done.index("embed_text") < done.index("failed")
    assert failures == []
    assert set(got) <= {(1, 1), (2, 2)}
    assert _names(tagged) == before
    client = grpc.InferenceServerClient(tagged.url)
    assert {answer_tags(client, name) for name in ("embed_text", "embed_image")} == {(1, 1)}


def test_one_number_may_not_become_another_bundle(tagged, bundle):
    publish(tagged.repository, bundle, 2, version=1)
    with pytest.raises(ServerError, match=r"version 1 is served as bundle .* another number"):
        tagged.reload()
    publish(tagged.repository, bundle, 2, version=1, bundle_id="tagged-version-0001")
    tagged.reload()  # the same bundle may: its configuration has changed, say
    assert answer_tags(grpc.InferenceServerClient(tagged.url), "embed_text") == (2, 2)


def test_an_older_number_is_taken_over_as_well(tagged, bundle):
    """As after a roll-back."""
    client = grpc.InferenceServerClient(tagged.url)
    for tag in (5, 2):
        publish(tagged.repository, bundle, tag)
        tagged.reload()
        assert answer_tags(client, "embed_text") == (tag, tag)


def test_an_incomplete_repository_is_refused_and_the_old_one_served(tagged, bundle):
    shutil.rmtree(tagged.repository / "text_encoder")
    with pytest.raises(BundleError, match="no text_encoder here"):
        tagged.reload()
    publish(tagged.repository, bundle, 2)
    config = read_config(tagged.repository / "embed_text" / "config.pbtxt")
    config.ensemble_scheduling.step[0].model_name = "embed_image"
    write_config(config, tagged.repository / "embed_text")
    with pytest.raises(BundleError, match="embed_image, which is no model with an engine"):
        tagged.reload()
    publish(tagged.repository, bundle, 3)
    shutil.rmtree(tagged.repository / "text_encoder" / "3")
    with pytest.raises(BundleError, match=r"text_encoder lacks the version .*\[3\]; here: none"):
        tagged.reload()
    shutil.rmtree(tagged.repository)
    with pytest.raises(BundleError, match="no model repository there"):
        tagged.changed()
    assert answer_tags(grpc.InferenceServerClient(tagged.url), "embed_text") == (1, 1)


def test_a_publication_that_is_replaced_while_it_is_read_is_read_again(
    tagged, bundle, tmp_path, monkeypatch
):
    copy_tree = publication_module.copy_tree
    left = [3, 4]

    def slow(source, target, **options):
        if left and source == tagged.repository:
            publish(tagged.repository, bundle, left.pop(0))
        copy_tree(source, target, **options)

    publish(tagged.repository, bundle, 2)
    monkeypatch.setattr(publication_module, "copy_tree", slow)
    assert tagged.reload().bundle_id == "tagged-version-0004"
    assert answer_tags(grpc.InferenceServerClient(tagged.url), "embed_image") == (4, 4)


def _serving_folders(repository):
    return sorted(repository.parent.glob(f".{repository.name}-server-*"))


def test_the_copy_takes_no_room_and_does_not_stay(tagged, bundle):
    (folder,) = _serving_folders(tagged.repository)
    file = Path("text_encoder") / "1" / "model.py"
    assert (folder / "publication-1" / file).samefile(tagged.repository / file)
    original = (tagged.repository / "text_encoder" / "config.pbtxt").read_text()
    publish(tagged.repository, bundle, 2)
    tagged.reload()
    assert [path.name for path in folder.glob("publication-*")] == ["publication-2"]
    assert original != (tagged.repository / "text_encoder" / "config.pbtxt").read_text()
    abandoned = tagged.repository.parent / f".{tagged.repository.name}-server-abcd1234"
    abandoned.mkdir()
    with TritonServer(tagged.repository, ports=FREE):
        assert not abandoned.exists()
        assert folder.exists()  # that of a server that lives
        assert len(_serving_folders(tagged.repository)) == 2
    assert _serving_folders(tagged.repository) == [folder]


def test_a_repository_on_another_file_system_is_copied(tagged, bundle, monkeypatch):
    def refuse(*_, **__):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    publish(tagged.repository, bundle, 2)
    tagged.reload()
    assert answer_tags(grpc.InferenceServerClient(tagged.url), "embed_text") == (2, 2)


def test_beside_a_read_only_repository_the_copy_lies_in_the_temporary_folder(
    tmp_path, bundle, monkeypatch
):
    repository = tmp_path / "tagged"
    publish(repository, bundle, 1)
    make = tempfile.mkdtemp

    def refuse(*words, dir=None, **options):  # noqa: A002  # tempfile's own name
        if dir == tmp_path:
            raise PermissionError(13, "Permission denied")
        return make(*words, dir=dir, **options)

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    serving = ServingFolder(repository)
    assert Path(tempfile.gettempdir()) in serving.root.parents
    layout, _ = serving.copy_repository()
    assert layout.publication.bundle_id == "tagged-version-0001"
    serving.close()
    assert not serving.root.exists()


@pytest.fixture
def serving(tmp_path, bundle, model_files):
    """`vireo serve` in a process of its own: the process, its repository, its URL, its log."""
    repository = tmp_path / "tagged"
    publish(repository, bundle, 1)
    code = (
        "from functools import partial; from pathlib import Path; "
        "from vireo_serving.models import files; from vireo_serving.server import watch; "
        f"files.FOLDER = Path({str(model_files)!r}); "
        "watch.watch = partial(watch.watch, seconds=0.1); "
        "from vireo_client.cli import main; main()"
    )
    ports = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    errors = tmp_path / "errors"
    with errors.open("w") as stream:
        process = start(
            [sys.executable, "-c", code, "serve", repository, *ports],
            stdout=subprocess.PIPE, stderr=stream, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    assert "is ready" in lines[0], lines[0] + errors.read_text()
    yield process, repository, lines[1].split()[1], errors
    process.send_signal(signal.SIGTERM)
    process.wait(120)
    assert process.returncode == 0


def test_vireo_serve_finds_new_publications_and_says_what_it_serves(serving, bundle):
    process, repository, url, errors = serving
    client = grpc.InferenceServerClient(url)
    assert answer_tags(client, "embed_text") == (1, 1)
    publish(repository, bundle, 2)
    assert "now serving bundle tagged-version-0002, version 2" in process.stdout.readline()
    assert answer_tags(client, "embed_text") == (2, 2)

    publish(repository, bundle, 3, broken="image_encoder")
    wait_until(lambda: "no room" in errors.read_text())
    time.sleep(0.5)  # some more looks
    lines = [line for line in errors.read_text().splitlines() if "no room" in line]
    assert len(lines) == 1
    assert "still serving bundle tagged-version-0002" in lines[0]
    assert answer_tags(client, "embed_text") == (2, 2)

    process.send_signal(signal.SIGHUP)  # asks for it although nothing has changed
    wait_until(lambda: errors.read_text().count("no room") == 2)
    publish(repository, bundle, 4)
    assert "now serving bundle tagged-version-0004" in process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    assert "now serving bundle tagged-version-0004" in process.stdout.readline()


def test_a_repository_that_goes_away_is_told_once(serving, bundle):
    process, repository, url, errors = serving
    shutil.rmtree(repository)
    wait_until(lambda: "no model repository there" in errors.read_text())
    time.sleep(0.5)
    assert errors.read_text().count("no model repository there") == 1
    assert answer_tags(grpc.InferenceServerClient(url), "embed_text") == (1, 1)
    publish(repository, bundle, 2)
    assert "now serving bundle tagged-version-0002" in process.stdout.readline()


def test_loading_and_shared_memory_need_the_key(tagged):
    client = grpc.InferenceServerClient(tagged.url)
    for call in (
        lambda: client.unload_model("embed_text"),
        lambda: client.load_model("embed_text"),
        lambda: client.get_model_repository_index(),
        lambda: client.get_system_shared_memory_status(),
        lambda: client.get_model_repository_index(
            headers={"triton-grpc-protocol-vireo-admin-key": "guessed-guessed-guessed"}
        ),
    ):
        with pytest.raises(InferenceServerException, match="restricted"):
            call()
    key = {"triton-grpc-protocol-vireo-admin-key": tagged.options.admin_key}
    assert client.get_model_repository_index(headers=key).models
    assert answer_tags(client, "embed_text") == (1, 1)  # and nobody else needs one
