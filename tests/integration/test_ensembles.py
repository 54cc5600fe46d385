"""A string or a file in, a vector out: the ensembles, against a real Triton."""

import io
import itertools
import json
import re
import shutil
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpc
from PIL import Image
from support.metrics import metric
from tritonclient.utils import InferenceServerException
from vireo_client.embedder import Embedder
from vireo_client.images import load_pixels
from vireo_client.towers.onnx import OnnxTowers
from vireo_export.export import export
from vireo_serving.admin import GRPC_KEY_HEADER
from vireo_serving.configs.triton_config import ServingOptions
from vireo_serving.repository.rollback import rollback
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer
from vireo_training.sources import open_source

TEXTS = [
    "con cá",
    "Hai con cá màu đỏ ở bên trái, ba ngôi sao màu vàng ở bên phải, bãi cỏ xanh phía sau",
    "ngôi nhà " * 300,
    "🐟🐟 two red fish, hai con cá!",
    "khong dau gi ca",
    "NFD: " + "hòa".encode().decode() + " hoà",
]
MEGA = 1_000_000


@pytest.fixture(scope="module")
def local(repository):
    """The client's own road: what the ensembles must answer."""
    with Embedder(repository, OnnxTowers.from_repository(repository)) as embedder:
        yield embedder


@pytest.fixture(scope="module")
def client(triton):
    with grpc.InferenceServerClient(triton.url) as value:
        yield value


@pytest.fixture(scope="module")
def files(test_records):
    return [record.path.read_bytes() for record in test_records[:8]]


def _ask(client, model, rows, outputs=("embedding",), **options):
    """Sends rows of bytes to an ensemble; return its one output, or a list of them."""
    tensor = grpc.InferInput(model.rpartition("_")[2], [len(rows), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[row] for row in rows], dtype=object))
    wanted = [grpc.InferRequestedOutput(output) for output in outputs]
    answer = client.infer(model, [tensor], outputs=wanted, **options)
    arrays = [answer.as_numpy(output) for output in outputs]
    return arrays[0] if len(arrays) == 1 else arrays


def _texts(client, texts, **options):
    return _ask(client, "embed_text", [text.encode() for text in texts], **options)


def _refused(client, model, rows, output="embedding"):
    """Return Triton's message about rows that it must refuse as the caller's fault."""
    with pytest.raises(InferenceServerException) as caught:
        _ask(client, model, rows, (output,))
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    return caught.value.message()


def _encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _photo(size=(300, 200), seed=0):
    noise = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def test_one_string_gives_the_clients_vector(client, local):
    buckets = set()
    for text in TEXTS:
        ((_, ids),) = local.text_path.encode([text])
        buckets.add(ids.shape[1])
        vectors = _texts(client, [text])
        assert vectors.shape == (1, local.dim)
        assert np.abs(vectors - local.embed_texts([text])).max() < 1e-5
    assert buckets == set(local.bundle.config.text.buckets)


def test_strings_of_several_buckets_in_one_request_give_the_same_vectors(client, local):
    vectors = _texts(client, TEXTS)
    assert np.abs(vectors - local.embed_texts(TEXTS)).max() < 1e-5


def test_files_give_the_clients_vectors(client, local, files):
    vectors = _ask(client, "embed_image", files)
    assert np.abs(vectors - local.embed_images(files)).max() < 1e-5
    alone = _ask(client, "embed_image", files[:1])
    assert np.abs(alone - vectors[:1]).max() < 1e-5


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_every_format_gives_the_clients_vector(client, local, kind):
    file = _encoded(_photo(), kind)
    assert np.abs(_ask(client, "embed_image", [file]) - local.embed_images([file])).max() < 1e-5


def test_odd_but_readable_images_give_the_vector_of_what_is_seen(client, local):
    photo = _photo()
    turned = Image.Exif()
    turned[0x0112] = 6
    grey = photo.convert("L")
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    frames = [_photo(seed=1)]
    palette = photo.quantize(255)
    pairs = [
        (_encoded(photo.transpose(Image.Transpose.ROTATE_90), "PNG", exif=turned), photo),
        (_encoded(sixteen, "PNG"), grey),
        (_encoded(sixteen, "TIFF"), grey),
        (_encoded(photo.convert("CMYK"), "TIFF"), photo.convert("CMYK")),
        (_encoded(photo, "WEBP", save_all=True, append_images=frames, lossless=True), photo),
        (_encoded(palette, "GIF", save_all=True, append_images=frames), palette),
        (_encoded(photo.convert("RGBA"), "PNG"), photo),
    ]  # fmt: skip
    vectors = _ask(client, "embed_image", [file for file, _ in pairs])
    expected = local.embed_images([_encoded(seen.convert("RGB"), "PNG") for _, seen in pairs])
    assert np.abs(vectors - expected).max() < 1e-5


BAD_TEXTS = {
    "empty": (b"", "text 1: holds no text"),
    "unknown": ("👍".encode(), "text 1: holds no text"),
    "blank": (" \u200b\n".encode(), "text 1: holds no text"),
    "not UTF-8": (b"xin ch\xe0o", r"text 1: is not UTF-8 \(.* at byte 6\)"),
    "100 KB": (b"con ca " * 15_000, "text 1: has 105000 bytes, at most 4096 are taken"),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_a_bad_text_is_refused_and_the_next_request_answered(client, local, name):
    bad, message = BAD_TEXTS[name]
    assert re.search(message, _refused(client, "embed_text", [b"con ca", bad]))
    again = _texts(client, TEXTS[:2])
    assert np.abs(again - local.embed_texts(TEXTS[:2])).max() < 1e-5


def _bomb():
    """A small PNG of 20,000 x 20,000."""
    return _encoded(Image.new("1", (20_000, 20_000)), "PNG")


BAD_IMAGES = {
    "zero bytes": (lambda: b"", r"image 1: not a readable image \(no bytes at all\)"),
    "text": (lambda: b"hello", r"image 1: not a readable image \(no format"),
    "truncated": (
        lambda: _encoded(_photo(), "JPEG")[:-200],
        r"image 1: not a readable image \(image file is truncated",
    ),
    "header alone": (lambda: _encoded(_photo(), "PNG")[:40], r"image 1: not a readable image"),
    "huge": (_bomb, r"image 1: too large an image.*make it smaller"),
    "EPS": (lambda: _encoded(_photo(), "EPS"), r"image 1: not a readable image \(EPS"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_is_refused_and_the_next_request_answered(client, local, files, name):
    make, message = BAD_IMAGES[name]
    assert re.search(message, _refused(client, "embed_image", [files[0], make(), files[1]]))
    again = _ask(client, "embed_image", files[:2])
    assert np.abs(again - local.embed_images(files[:2])).max() < 1e-5


def test_all_broken_images_of_a_request_are_named(client, files):
    message = _refused(client, "embed_image", [b"", files[0], b"zzz"])
    assert "image 0: not a readable" in message
    assert "image 2: not a readable" in message
    assert "image 1" not in message


def test_a_partial_answer_has_no_direction_where_the_image_is_broken(client, local, files):
    rows = [files[0], b"", files[1], b"zzz"]
    vectors, errors = _ask(
        client, "embed_image", rows, ("embedding", "error"), parameters={"partial": True}
    )
    assert np.abs(vectors[[0, 2]] - local.embed_images(files[:2])).max() < 1e-5
    assert not vectors[[1, 3]].any()
    assert errors[0, 0] == errors[2, 0] == b""
    assert errors[1, 0] == b"image 1: not a readable image (no bytes at all)"
    assert errors[3, 0].startswith(b"image 3: not a readable image")
    # Who does not ask for `error` gets no plausible vector either.
    (alone,) = _ask(client, "embed_image", [b"zzz"], parameters={"partial": True})
    assert not alone.any()


def test_a_good_request_has_empty_errors(client, files):
    _, errors = _ask(client, "embed_image", files, ("embedding", "error"))
    assert errors.shape == (len(files), 1)
    assert set(errors.ravel()) == {b""}


@pytest.mark.parametrize(
    ("model", "broken"), [("embed_text", [b"\xff", b""]), ("embed_image", [b"zzz", b""])]
)
def test_a_broken_request_fails_alone_among_many_at_once(client, local, files, model, broken):
    """The dynamic batcher joins them; neither the broken ones nor their neighbours may mix."""
    if model == "embed_text":
        good = [text.encode() for text in TEXTS]
        expected = local.embed_texts(TEXTS)
    else:
        good, expected = files, local.embed_images(files)
    requests = [row for pair in zip(good * 4, itertools.cycle(broken)) for row in pair]

    def ask(row):
        try:
            return _ask(client, model, [row])[0]
        except InferenceServerException as error:
            return error

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, requests))
    for number, answer in enumerate(answers):
        if number % 2:
            assert answer.status() == "StatusCode.INVALID_ARGUMENT"
        else:
            assert np.abs(answer - expected[number // 2 % len(good)]).max() < 1e-5


def test_a_batch_over_the_limit_is_refused(client):
    assert "batch-size must be <= 64" in _refused(client, "embed_text", [b"con ca"] * 65)


def test_the_tower_takes_either_ids_or_a_text(triton, client, local):
    """Under its own name, where the ensembles' signatures do not stand before it."""
    index = client.get_model_repository_index(headers={GRPC_KEY_HEADER: triton.options.admin_key})
    (engine,) = (model.name for model in index.models if model.name.startswith("text_encoder@"))
    text = grpc.InferInput("text", [1, 1], "BYTES")
    text.set_data_from_numpy(np.array([["con cá".encode()]], dtype=object))
    ids = grpc.InferInput("input_ids", [1, 16], "INT32")
    ((_, input_ids),) = local.text_path.encode(["con cá"])
    ids.set_data_from_numpy(input_ids)
    for tensor in (text, ids):
        answer = client.infer(engine, [tensor]).as_numpy("embedding")
        assert np.abs(answer - local.embed_texts(["con cá"])).max() < 1e-5
    with pytest.raises(InferenceServerException, match="send either input_ids or text"):
        client.infer(engine, [text, ids])


def test_the_image_tower_takes_either_pixels_or_files(triton, client, local, files):
    index = client.get_model_repository_index(headers={GRPC_KEY_HEADER: triton.options.admin_key})
    (engine,) = (model.name for model in index.models if model.name.startswith("image_encoder@"))
    image = grpc.InferInput("image", [2, 1], "BYTES")
    image.set_data_from_numpy(np.array([[file] for file in files[:2]], dtype=object))
    spec = local.bundle.config.image
    values = np.stack([load_pixels(file, spec) for file in files[:2]])
    pixels = grpc.InferInput("pixels", list(values.shape), "UINT8")
    pixels.set_data_from_numpy(values)
    for tensor in (image, pixels):
        answer = client.infer(engine, [tensor]).as_numpy("embedding")
        assert np.abs(answer - local.embed_images(files[:2])).max() < 1e-5
    with pytest.raises(InferenceServerException, match="send either pixels or image"):
        client.infer(engine, [image, pixels])


def test_preprocessing_alone_gives_the_clients_ids_and_pixels(client, local, files):
    ids = _ask(client, "preprocess_text", [s.encode() for s in TEXTS], ("input_ids",))
    for row, text in zip(ids, TEXTS, strict=True):
        ((_, expected),) = local.text_path.encode([text])
        length = expected.shape[1]
        assert row[:length].tolist() == expected[0].tolist()
        assert set(row[length:]) <= {local.bundle.config.text.pad_id}
    assert ids.shape[1] == max(local.bundle.config.text.buckets)
    assert "text 0: is not UTF-8" in _refused(client, "preprocess_text", [b"\xff"], "input_ids")

    names = ("pixels", "readable", "error")
    pixels, readable, errors = _ask(
        client, "preprocess_image", [files[0], b"zzz"], names, parameters={"partial": True}
    )
    assert np.array_equal(pixels[0], load_pixels(files[0], local.bundle.config.image))
    assert not pixels[1].any()
    assert readable.tolist() == [[True], [False]]
    assert errors[0, 0] == b""
    assert errors[1, 0].startswith(b"image 1: not a readable image")
    assert "image 1: not a" in _refused(client, "preprocess_image", [files[0], b"zzz"], "pixels")


def test_requests_for_other_outputs_share_batches_and_get_their_own(client, local, files):
    """Pixels, vectors, or errors alone."""
    expected = local.embed_images(files)
    calls = [
        ("embed_image", "embedding"),
        ("preprocess_image", "pixels"),
        ("embed_image", "error"),
    ]

    def ask(number):
        model, output = calls[number % 3]
        return _ask(client, model, [files[number % len(files)]], (output,))

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(48)))
    for number, answer in enumerate(answers):
        place = number % len(files)
        if number % 3 == 0:
            assert np.abs(answer[0] - expected[place]).max() < 1e-5
        elif number % 3 == 1:
            assert np.array_equal(answer[0], load_pixels(files[place], local.bundle.config.image))
        else:
            assert answer.tolist() == [[b""]]


def test_texts_of_every_length_in_one_request(client, local):
    texts = [" ".join(["con cá bơi"] * count) for count in (1, 9, 2, 30, 1, 12)]
    assert np.abs(_texts(client, texts) - local.embed_texts(texts)).max() < 1e-5


def test_a_crowd_is_answered_each_its_own(client, local):
    """Whether requests are joined depends on the machine; `test_queues` makes that certain."""
    words = ["con", "cá", "màu", "đỏ", "hai", "xanh", "bơi"]
    texts = [" ".join(three) for three in itertools.permutations(words, 3)][:48]
    expected = local.embed_texts(texts)
    apart = np.abs(expected[:, None] - expected[None]).max(axis=2)
    assert apart[~np.eye(len(texts), dtype=bool)].min() > 1e-4, "answers could be exchanged unseen"
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda text: _texts(client, [text])[0], texts))
    assert np.abs(np.stack(answers) - expected).max() < 1e-5


def test_ids_out_of_range_are_named(client):
    for wrong in (-1, 10**6):
        ids = np.full((1, 16), 5, dtype=np.int32)
        ids[0, 3] = wrong
        tensor = grpc.InferInput("input_ids", [1, 16], "INT32")
        tensor.set_data_from_numpy(ids)
        with pytest.raises(InferenceServerException, match=f"input_ids hold {wrong}; ids are from"):
            client.infer("text_encoder", [tensor])
    tensor = grpc.InferInput("input_ids", [1, 999], "INT32")
    tensor.set_data_from_numpy(np.full((1, 999), 5, dtype=np.int32))
    with pytest.raises(InferenceServerException, match="999 ids in a row, at most 64"):
        client.infer("text_encoder", [tensor])


def test_a_refusal_is_a_refusal_however_often(client):
    """Triton's own cache keeps refusals too, and answers with success and no output."""
    for _ in range(3):
        assert "not UTF-8" in _refused(client, "embed_text", [b"\xff"])
        text = grpc.InferInput("text", [1, 1], "BYTES")
        text.set_data_from_numpy(np.array([[b"\xff"]], dtype=object))
        with pytest.raises(InferenceServerException, match="not UTF-8"):
            client.infer("preprocess_text", [text])


def test_the_towers_own_cache_is_among_the_metrics(triton, client):
    def counted():
        time.sleep(1.1)  # it reports once a second
        _texts(client, ["một câu để đếm"])
        names = ("vireo_cache_hits_total", "vireo_cache_misses_total")
        return [metric(triton, name, "text_encoder") for name in names]

    counted()  # the text is in the cache now, and earlier look-ups are reported
    hits, misses = counted()
    for text in ("câu khác", "câu khác", "một câu để đếm"):
        _texts(client, [text])
    assert counted() == [hits + 3, misses + 1]


def test_plain_http_reaches_the_ensemble(triton, local):
    """As curl, or any service without a Triton client, does it."""
    body = {"inputs": [{"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": ["con cá"]}]}
    request = urllib.request.Request(
        f"http://127.0.0.1:{triton.ports.http}/v2/models/embed_text/infer",
        json.dumps(body).encode(),
    )
    with urllib.request.urlopen(request) as answer:
        (output,) = json.load(answer)["outputs"]
    assert output["name"] == "embedding"
    assert np.abs(np.array(output["data"]) - local.embed_texts(["con cá"])[0]).max() < 1e-5


def test_what_was_rolled_back_to_is_served(repository, bundle, test_records, local, tmp_path):
    """A real second export with other settings, and back."""
    folder = shutil.copytree(repository.folder, tmp_path / "r")
    export(open_source(bundle.folder), folder, test_records[:8], ServingOptions(max_batch_size=2))
    assert rollback(folder) == 1
    with TritonServer(folder, ports=Ports(0, 0, 0)) as server:
        with grpc.InferenceServerClient(server.url) as client:
            assert client.get_model_config("embed_text").config.max_batch_size == 64
            vectors = _texts(client, TEXTS)
    assert np.abs(vectors - local.embed_texts(TEXTS)).max() < 1e-5
