"""Embeddings in files: written, gone on with, and moved into and out of an index."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
from support.processes import run_python
from vireo_client.errors import DataError
from vireo_client.index import Index, IndexWriter
from vireo_client.indexing import embedding_files
from vireo_client.indexing.contents import read_images
from vireo_client.indexing.embed import embed_images_to, embed_texts_to
from vireo_client.indexing.embedding_files import read_partitions
from vireo_client.indexing.exchange import export_embeddings, import_embeddings
from vireo_client.indexing.sources import list_images


@pytest.fixture
def data(photos):
    """A data set of six images, of which two have captions and a price."""
    rows = [{"image": f"{name}.png"} for name in "abcdef"]
    rows[0] |= {"captions": ["con cá", "màu đỏ"], "price": 12}
    rows[4] |= {"captions": ["ngôi nhà"], "price": 7}
    (photos / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return photos


def _embed(data, out, embedder, **options):
    return embed_images_to(out, embedder, list_images(data)[0], partition_rows=4, **options)


def test_images_are_written_in_partitions_in_the_layout_that_others_read(data, tmp_path, embedder):
    out = tmp_path / "out"
    report = _embed(data, out, embedder)
    assert (report.rows, report.captions, report.partitions, report.skipped) == (6, 3, 2, [])
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.npy")) == [
        "captions/text_emb/text_emb_0.npy", "captions/text_emb/text_emb_1.npy",
        "img_emb/img_emb_0.npy", "img_emb/img_emb_1.npy",
    ]  # fmt: skip
    pq = pytest.importorskip("pyarrow.parquet")
    rows = pq.read_table(out / "metadata" / "metadata_0.parquet").to_pylist()
    assert [os.path.basename(row["image_path"]) for row in rows] == [f"{n}.png" for n in "abcd"]
    assert [row["price"] for row in rows] == [12, None, None, None]
    vectors = np.load(out / "img_emb" / "img_emb_0.npy")
    expected = embedder.embed_images([data / f"{n}.png" for n in "abcd"])
    assert vectors.dtype == np.float32
    assert np.allclose(vectors, expected, atol=1e-6)
    captions = pq.read_table(out / "captions" / "metadata" / "metadata_1.parquet").to_pylist()
    assert captions == [{"caption": "ngôi nhà", "image_path": str(data.resolve() / "e.png")}]
    vectors = np.load(out / "captions" / "text_emb" / "text_emb_1.npy")
    assert np.allclose(vectors, embedder.embed_texts(["ngôi nhà"]), atol=1e-6)


def test_without_pyarrow_metadata_is_jsonl(data, tmp_path, embedder, monkeypatch):
    monkeypatch.setattr(embedding_files, "find_spec", lambda name: None)
    _embed(data, tmp_path / "out", embedder, dtype="float16")
    (first, second) = read_partitions(tmp_path / "out", "img_emb")
    assert (len(first.rows), len(second.rows), first.embeddings.dtype) == (4, 2, np.float16)
    assert (tmp_path / "out" / "metadata" / "metadata_1.jsonl").is_file()


_KILLED = """
import os, signal, sys
from pathlib import Path
from vireo_client.bundle import Bundle
from vireo_client.embedder import Embedder
from vireo_client.indexing import embed as module
from vireo_client.indexing.sources import list_images
from vireo_client.towers.onnx import OnnxTowers
data, out, repository = map(Path, sys.argv[1:])
bundle = Bundle(repository)
plain = module.write_partition
def write(folder, what, number, *rest):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    plain(folder, what, number, *rest)
module.write_partition = write
embedder = Embedder(bundle, OnnxTowers.from_repository(bundle))
module.embed_images_to(out, embedder, list_images(data)[0], partition_rows=4)
"""


def test_a_run_goes_on_after_the_partitions_that_are_complete(data, tmp_path, embedder):
    out = tmp_path / "out"
    done = run_python("-c", _KILLED, data, out, embedder.bundle.folder)
    assert done.returncode == -signal.SIGKILL, done.stderr
    report = _embed(data, out, embedder)
    assert (report.rows, report.partitions, report.known) == (2, 1, 1)
    whole = tmp_path / "whole"
    _embed(data, whole, embedder)
    for path in whole.rglob("*.npy"):
        assert np.allclose(np.load(path), np.load(out / path.relative_to(whole)), atol=1e-6)
    assert _embed(data, out, embedder).known == 2


def test_other_images_or_settings_do_not_go_on_with_a_folder(data, tmp_path, embedder):
    out = tmp_path / "out"
    _embed(data, out, embedder)
    with pytest.raises(DataError, match="was written with another dtype"):
        _embed(data, out, embedder, dtype="float16")
    os.utime(data / "a.png", ns=(1, 1))
    with pytest.raises(DataError, match="was written with another source"):
        _embed(data, out, embedder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    with pytest.raises(DataError, match="holds other files"):
        _embed(data, tmp_path / "mine", embedder)


def test_broken_images_are_skipped_and_rows_stay_with_their_embeddings(data, tmp_path, embedder):
    (data / "b.png").write_bytes(b"rubbish")
    report = _embed(data, tmp_path / "out", embedder)
    assert (report.rows, len(report.skipped)) == (5, 1)
    first, _ = read_partitions(tmp_path / "out", "img_emb")
    for row, vector in zip(first.rows, first.embeddings, strict=True):
        assert np.allclose(vector, embedder.embed_images([row["image_path"]])[0], atol=1e-6)


def test_texts_are_written_with_what_stands_beside_them(tmp_path, embedder):
    lines = tmp_path / "texts.txt"
    lines.write_bytes("con cá\n\nngôi nhà\n".encode() + b"\xff\n")
    report = embed_texts_to(tmp_path / "one", embedder, lines, partition_rows=1)
    assert (report.rows, report.partitions, len(report.skipped)) == (2, 2, 1)
    first, second = read_partitions(tmp_path / "one", "text_emb")
    assert (first.rows, second.rows) == ([{"caption": "con cá"}], [{"caption": "ngôi nhà"}])
    assert np.allclose(second.embeddings, embedder.embed_texts(["ngôi nhà"]), atol=1e-6)
    again = embed_texts_to(tmp_path / "one", embedder, lines, partition_rows=1)
    assert (again.rows, again.known) == (0, 2)
    (tmp_path / "texts.jsonl").write_text('{"captions": ["một", "hai"], "id": 7}\n{"id": 8}\nx\n')
    report = embed_texts_to(tmp_path / "two", embedder, tmp_path / "texts.jsonl")
    (only,) = read_partitions(tmp_path / "two", "text_emb")
    assert only.rows == [{"id": 7, "caption": "một"}, {"id": 7, "caption": "hai"}]
    assert len(report.skipped) == 1


def _held(folder, bundle):
    return {image.path: image for block in read_images(folder, bundle) for image in block}


def test_an_index_goes_through_files_into_another_index_and_is_the_same(
    data, tmp_path, embedder, index_source
):
    index_source(data)
    bundle = embedder.bundle
    assert export_embeddings(tmp_path / "i", bundle, tmp_path / "out", partition_rows=4) == (6, 3)
    with pytest.raises(DataError, match="choose a new folder"):
        export_embeddings(tmp_path / "i", bundle, tmp_path / "out", partition_rows=4)
    with IndexWriter(tmp_path / "j", bundle) as writer:
        report = import_embeddings(writer, bundle, tmp_path / "out")
    assert (report.added, report.captions, report.skipped) == (6, 3, [])
    one, other = _held(tmp_path / "i", bundle), _held(tmp_path / "j", bundle)
    assert one.keys() == other.keys()
    for path, image in one.items():
        twin = other[path]
        assert (image.sha256, image.stamp, image.captions) == (
            twin.sha256, twin.stamp, twin.captions,
        )  # fmt: skip
        assert dict(image.fields) == dict(twin.fields)
        assert np.allclose(image.embedding, twin.embedding, atol=1e-6)
    # Nothing is embedded again: hashes and stamps came along.
    assert index_source(data, folder=tmp_path / "j").unchanged == 6
    with Index(tmp_path / "j", bundle) as index:
        ((match,),) = index.search_captions(embedder.embed_texts(["ngôi nhà"]), 1)
        assert match.caption == "ngôi nhà"


def test_what_vireo_embed_wrote_becomes_an_index(data, tmp_path, embedder, index_source):
    _embed(data, tmp_path / "out", embedder, dtype="float16")
    with IndexWriter(tmp_path / "i", embedder.bundle) as writer:
        report = import_embeddings(writer, embedder.bundle, tmp_path / "out")
    assert (report.added, report.captions) == (6, 3)
    assert index_source(data).unchanged == 6


@pytest.fixture
def foreign(tmp_path, embedder, photos):
    """A folder as clip-retrieval writes it: one row a caption, half precision."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    out = tmp_path / "foreign"
    for name in ("img_emb", "text_emb", "metadata"):
        (out / name).mkdir(parents=True)
    names = ["a.png", "a.png", "b.png"]
    paths = [str(photos.resolve() / name) for name in names]
    captions = ["con cá", "màu đỏ", "ngôi nhà"]
    images = embedder.embed_images(paths).astype(np.float16)
    np.save(out / "img_emb" / "img_emb_0.npy", images)
    texts = embedder.embed_texts(captions).astype(np.float16)
    np.save(out / "text_emb" / "text_emb_0.npy", texts)
    others = {"bytes": ["12 KB"] * 3, "mtime_ns": [float("nan")] * 3, "sha256": [7] * 3}
    table = pa.table({"image_path": paths, "caption": captions, **others})
    pq.write_table(table, out / "metadata" / "metadata_0.parquet")
    return out


def _import(folder, tmp_path, bundle):
    with IndexWriter(tmp_path / "i", bundle) as writer:
        return import_embeddings(writer, bundle, folder)


def test_embeddings_of_other_programs_are_imported_with_their_captions(foreign, tmp_path, embedder):
    report = _import(foreign, tmp_path, embedder.bundle)
    assert (report.added, report.captions) == (2, 3)
    held = _held(tmp_path / "i", embedder.bundle)
    assert sorted(image.captions for image in held.values()) == [
        ("con cá", "màu đỏ"), ("ngôi nhà",),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda a: a[:, :100], "embeddings of size 100, but the bundle's are of size 256"),
        (lambda a: a * 3, "row 0 is of length 3; embeddings must be of unit length"),
        (
            lambda a: np.where(np.arange(3)[:, None] == 1, np.nan, a),
            "row 1 holds values that are no",
        ),
        (lambda a: a[:2], "2 embeddings, but .* has 3 rows"),
        (lambda a: a.astype(np.int32), "not an array"),
    ],
)
def test_embeddings_that_are_not_what_they_should_be_are_refused(
    foreign, tmp_path, embedder, damage, message
):
    path = foreign / "img_emb" / "img_emb_0.npy"
    np.save(path, damage(np.load(path)))
    with pytest.raises(DataError, match=message):
        _import(foreign, tmp_path, embedder.bundle)
    with Index(tmp_path / "i", embedder.bundle) as index:
        assert len(index) == 0


def test_damaged_files_and_those_of_another_bundle_are_refused(foreign, tmp_path, embedder):
    array = foreign / "img_emb" / "img_emb_0.npy"
    plain = array.read_bytes()
    for data in (plain[:200], b"", b"nothing"):
        array.write_bytes(data)
        with pytest.raises(DataError, match=r"img_emb_0\.npy: not a"):
            _import(foreign, tmp_path, embedder.bundle)
    array.unlink()
    with pytest.raises(DataError, match="no such file, though its metadata is there"):
        _import(foreign, tmp_path, embedder.bundle)
    (foreign / "vireo.json").write_text('{"bundle": "another"}')
    with pytest.raises(DataError, match="embeddings of bundle another"):
        _import(foreign, tmp_path, embedder.bundle)
    shutil.rmtree(foreign / "metadata")
    (foreign / "vireo.json").unlink()
    with pytest.raises(DataError, match="no embeddings here"):
        _import(foreign, tmp_path, embedder.bundle)
