import json
import os
import shutil
import threading

import numpy as np
import pytest
from PIL import Image
from vireo_client import images
from vireo_client.bundle import Bundle
from vireo_client.errors import DataError, ServerError
from vireo_client.index import Index, IndexWriter, neutral
from vireo_client.indexing.contents import read_images
from vireo_client.indexing.pipeline import index_images
from vireo_client.indexing.sources import list_images
from vireo_client.search import SearchClient


@pytest.fixture
def photos(scenes, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted((scenes / "test" / "images").iterdir())[:20]:
        shutil.copy(path, folder)
    return folder


def _index(folder, source, embedder):
    records, _ = list_images(source)
    with IndexWriter(folder, embedder.bundle) as writer:
        return index_images(writer, embedder, records, source=source)


def test_an_image_is_indexed_as_it_is_embedded_by_itself(tmp_path, embedder, monkeypatch):
    """Also one that is decoded at a reduced scale."""
    folder = tmp_path / "large"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (640, 800, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "a.jpg")
    in_full = embedder.embed_images([folder / "a.jpg"])
    monkeypatch.setattr(images, "REDUCED_PIXELS", 500_000)
    alone = embedder.embed_images([folder / "a.jpg"])
    assert not np.allclose(alone, in_full, atol=1e-3)
    _index(tmp_path / "i", folder, embedder)
    ((indexed,),) = [*read_images(tmp_path / "i", embedder.bundle)]
    np.testing.assert_allclose(indexed.embedding, alone[0], atol=1e-5)


def test_a_folder_of_images_is_indexed_and_found_by_itself(photos, tmp_path, embedder):
    report = _index(tmp_path / "i", photos, embedder)
    assert (report.added, report.unchanged, report.skipped) == (20, 0, [])
    with SearchClient(tmp_path / "i") as client:
        for path in sorted(photos.iterdir())[:5]:
            best = client.search_by_image(path, k=1)[0]
            assert best.path == str(path.resolve())
            assert best.score == pytest.approx(1, abs=1e-4)


def test_a_second_run_embeds_only_what_is_new_or_changed(photos, tmp_path, embedder):
    _index(tmp_path / "i", photos, embedder)
    first, second, *_ = sorted(photos.iterdir())
    shutil.copy(second, first)  # another image under the old name
    os.utime(first, ns=(1, 1))
    shutil.copy(second, photos / "new.png")
    report = _index(tmp_path / "i", photos, embedder)
    assert (report.added, report.unchanged) == (2, 19)
    with Index(tmp_path / "i", embedder.bundle) as index:
        assert len(index) == 21


def test_broken_images_are_skipped_by_name_and_the_rest_is_indexed(photos, tmp_path, embedder):
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    (photos / "empty.png").touch()
    report = _index(tmp_path / "i", photos, embedder)
    assert report.added == 20
    assert sorted(os.path.basename(s.where) for s in report.skipped) == ["broken.jpg", "empty.png"]


def test_captions_are_indexed_beside_their_images(scenes, tmp_path, embedder):
    report = _index(tmp_path / "i", scenes / "test", embedder)
    assert (report.added, report.captions) == (48, 192)
    with SearchClient(tmp_path / "i") as client:
        image = scenes / "test" / "images" / "test_00000.png"
        matches = client.describe(image, k=7)
        assert len(matches) == 7
        assert all(match.caption for match in matches)


def test_ctrl_c_keeps_what_was_embedded(photos, tmp_path, embedder, monkeypatch):
    plain = embedder.towers.encode_image

    def interrupted(pixels):
        if len(pixels) < 8:  # the last of three batches
            raise KeyboardInterrupt
        return plain(pixels)

    monkeypatch.setattr(embedder.towers, "encode_image", interrupted)
    report = _index(tmp_path / "i", photos, embedder)
    assert report.interrupted
    with Index(tmp_path / "i", embedder.bundle) as index:
        assert len(index) == report.added == 16


def test_an_empty_folder_is_an_error_and_nothing_changes(photos, tmp_path, embedder):
    _index(tmp_path / "i", photos, embedder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images in this folder"):
        _index(tmp_path / "i", tmp_path / "empty", embedder)
    with Index(tmp_path / "i", embedder.bundle) as index:
        assert len(index) == 20


def test_images_that_captions_do_not_name_are_counted(photos, caplog):
    first, second, *_ = sorted(photos.iterdir())
    captions = photos / "captions.jsonl"
    captions.write_text(json.dumps({"image": first.name, "captions": ["con cá"]}))
    records, skipped = list_images(photos)
    assert (len(records), skipped) == (1, [])
    assert "19 images have no usable record in captions.jsonl" in caplog.text
    assert str(second) in caplog.text


def test_what_is_no_image_is_counted_by_kind(photos, caplog):
    for name in ("a.mp4", "b.CR2", "c.txt"):
        (photos / name).write_text("x")
    (photos / "dead.jpg").symlink_to(photos / "gone.jpg")
    records, skipped = list_images(photos)
    assert (len(records), len(skipped)) == (20, 1)
    assert "1 other files, 1 raw photos, 1 videos" in caplog.text


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        list_images(tmp_path / "gone")


def test_changed_captions_are_indexed_again(scenes, tmp_path, embedder):
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(scenes / "test" / "images" / "test_00000.png", data / "a.png")
    captions = data / "captions.jsonl"
    for text, added in (("con cá", 1), ("con cá", 0), ("ngôi nhà", 1)):
        captions.write_text(json.dumps({"image": "a.png", "captions": [text]}))
        assert _index(tmp_path / "i", data, embedder).added == added
    captions.unlink()  # the folder alone says nothing about captions: they stay
    assert _index(tmp_path / "i", data, embedder).added == 0
    with SearchClient(tmp_path / "i") as client:
        (match,) = client.describe(data / "a.png")
        assert match.caption == "ngôi nhà"


def test_two_names_of_one_file_are_one_image(photos, tmp_path, embedder):
    first = sorted(photos.iterdir())[0]
    (photos / "other name.png").symlink_to(first)
    assert _index(tmp_path / "i", photos, embedder).added == 20


def test_a_name_that_is_not_utf8_is_skipped(photos, tmp_path, embedder):
    first = sorted(photos.iterdir())[0]
    shutil.copy(first, os.fsencode(photos) + b"/x\xff.png")
    report = _index(tmp_path / "i", photos, embedder)
    assert report.added == 20
    assert "not UTF-8" in report.skipped[0].reason


def test_an_image_that_goes_away_is_skipped(photos, tmp_path, embedder):
    records, _ = list_images(photos)
    records[3].path.unlink()
    with IndexWriter(tmp_path / "i", embedder.bundle) as writer:
        report = index_images(writer, embedder, records)
    assert (report.added, len(report.skipped)) == (19, 1)


def test_a_server_that_fails_half_way_keeps_what_was_embedded(
    photos, tmp_path, embedder, monkeypatch
):
    plain = embedder.towers.encode_image

    def failing(pixels):
        if len(pixels) < 8:  # the last of three batches
            raise ServerError("gone")
        return plain(pixels)

    monkeypatch.setattr(embedder.towers, "encode_image", failing)
    with pytest.raises(ServerError):
        _index(tmp_path / "i", photos, embedder)
    with Index(tmp_path / "i", embedder.bundle) as index:
        assert len(index) == 16


def test_progress_is_told_and_a_run_can_be_stopped(photos, tmp_path, embedder):
    told, stop = [], threading.Event()

    def note(report, done, total):
        told.append((done, total, report.added))
        if done:
            stop.set()

    def run(**options):
        with IndexWriter(tmp_path / "i", embedder.bundle) as writer:
            records = list_images(photos)[0]
            return index_images(writer, embedder, records, source=photos, **options)

    stopped = run(on_progress=note, stop=stop)
    assert stopped.interrupted
    assert told[0] == (0, 20, 0)
    assert told[-1] == (stopped.added, 20, stopped.added)
    told.clear()
    rest = run(on_progress=note)
    assert not rest.interrupted
    assert rest.added == 20 - stopped.added
    assert told[-1][:2] == (20, 20)


def test_relevance_is_learned_from_the_embeddings_beside_the_engines(
    photos, tmp_path, embedder, monkeypatch
):
    calls = []
    embed = embedder.embed_texts

    def counted(texts, **options):
        calls.append(list(texts))
        return embed(texts, **options)

    monkeypatch.setattr(embedder, "embed_texts", counted)
    folder = shutil.copytree(embedder.bundle.folder, tmp_path / "repository")
    monkeypatch.setattr(embedder, "bundle", Bundle(folder))
    neutral_file = folder / neutral.FILE

    def learned(name):
        calls.clear()
        records, _ = list_images(photos)
        with IndexWriter(tmp_path / name, embedder.bundle) as writer:
            index_images(writer, embedder, records)
        with Index(tmp_path / name, embedder.bundle) as index:
            return index.relevance.scores, any(calls)

    neutral_file.unlink(missing_ok=True)
    by_embedding, embedded = learned("a")
    assert embedded
    neutral.write_beside_engines(folder, embedder.bundle, embed)
    by_file, embedded = learned("b")
    assert not embedded
    assert np.array_equal(by_file, by_embedding)
    whole = neutral_file.read_text()
    of_another = {**json.loads(whole), "bundle_id": "another-bundle"}
    for name, text in (("cut", whole[:-40]), ("other", json.dumps(of_another)), ("none", "[]")):
        neutral_file.write_text(text)
        scores, embedded = learned(name)
        assert embedded
        assert np.array_equal(scores, by_embedding)
