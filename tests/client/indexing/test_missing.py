"""Runs of indexing after files were deleted, renamed, moved or overwritten."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from vireo_client.errors import DataError, ServerError
from vireo_client.index import Index, IndexWriter
from vireo_client.index.catalogue import CATALOGUE_FILE
from vireo_client.indexing.pipeline import index_images
from vireo_client.indexing.sources import list_images


@pytest.fixture
def indexed(tmp_path, embedder):
    """Return a function that lists what a reader finds: the name of every image."""

    def read(base=tmp_path / "photos"):
        with Index(tmp_path / "i", embedder.bundle) as index:
            query = np.ones((1, embedder.dim), np.float32)
            (matches,) = index.search_images(query, 1000)
            assert len(matches) == len(index)
        return sorted(os.path.relpath(match.path, base.resolve()) for match in matches)

    return read


@pytest.fixture
def encoded(embedder, monkeypatch):
    """Count the images that the tower embeds."""
    plain, counts = embedder.towers.encode_image, []

    def encode(pixels):
        counts.append(len(pixels))
        return plain(pixels)

    monkeypatch.setattr(embedder.towers, "encode_image", encode)
    return counts


def _names(text):
    return [f"{name}.png" for name in text]


def _rows(folder):
    with sqlite3.connect(folder / CATALOGUE_FILE) as db:
        rows = dict(db.execute("SELECT path, id FROM images"))
    db.close()
    return {os.path.basename(path): id_ for path, id_ in rows.items()}


def test_deleted_renamed_and_ruined_images_are_found_no_more(
    photos, index_source, indexed, encoded, tmp_path, embedder
):
    index_source(photos)
    before = _rows(tmp_path / "i")
    (vector,) = embedder.embed_images([photos / "b.png"])
    encoded.clear()
    (photos / "a.png").unlink()
    (photos / "b.png").rename(photos / "renamed.png")
    (photos / "c.png").write_bytes(b"rubbish")
    report = index_source(photos)
    assert (report.added, report.unchanged, encoded) == (0, 3, [])
    assert [os.path.basename(p) for p in report.removed] == ["a.png", "c.png"]
    assert [tuple(map(os.path.basename, m)) for m in report.moved] == [("b.png", "renamed.png")]
    assert [os.path.basename(s.where) for s in report.skipped] == ["c.png"]
    assert indexed() == sorted([*_names("def"), "renamed.png"])
    after = _rows(tmp_path / "i")
    assert after["renamed.png"] > max(before.values())  # an id names one path for ever
    with Index(tmp_path / "i", embedder.bundle) as index:
        ((match,),) = index.search_images(vector[None], 1)
    assert os.path.basename(match.path) == "renamed.png"
    assert match.score == pytest.approx(1, abs=1e-4)
    again = index_source(photos)
    assert (again.unchanged, again.removed, again.moved) == (4, [], [])


def test_images_are_moved_to_other_folders_and_over_other_images(
    photos, index_source, indexed, encoded
):
    index_source(photos)
    encoded.clear()
    (photos / "deep" / "er").mkdir(parents=True)
    (photos / "a.png").rename(photos / "deep" / "er" / "a.png")
    (photos / "b.png").replace(photos / "c.png")
    report = index_source(photos)
    assert (len(report.moved), report.removed, encoded) == (2, [], [])
    assert indexed() == sorted([*_names("cdef"), "deep/er/a.png"])


def test_copies_stay_and_each_renamed_copy_is_moved_once(photos, index_source, indexed, encoded):
    shutil.copy(photos / "a.png", photos / "copy 1.png")
    shutil.copy(photos / "a.png", photos / "copy 2.png")
    index_source(photos)
    assert indexed() == sorted([*_names("abcdef"), "copy 1.png", "copy 2.png"])
    encoded.clear()
    (photos / "copy 1.png").rename(photos / "x.png")
    (photos / "copy 2.png").rename(photos / "y.png")
    shutil.copy(photos / "a.png", photos / "z.png")  # one more than there are embeddings of
    report = index_source(photos)
    assert (len(report.moved), report.added, report.removed, encoded) == (2, 1, [], [1])
    assert indexed() == _names("abcdefxyz")


def test_another_image_of_the_same_size_is_no_renamed_one(photos, index_source, encoded):
    images = [(photos / name).read_bytes() for name in ("a.png", "b.png")]
    size = max(map(len, images))
    for name, data in zip(("a.png", "b.png"), images, strict=True):
        (photos / name).write_bytes(data.ljust(size, b"\0"))
    (photos / "b.png").rename(photos.parent / "b.png")
    index_source(photos)
    encoded.clear()
    (photos / "a.png").unlink()
    (photos.parent / "b.png").rename(photos / "b.png")
    report = index_source(photos)
    assert (report.added, report.moved, len(report.removed), encoded) == (1, [], 1, [1])


def test_what_lies_outside_the_folder_is_left_alone(photos, index_source, indexed, tmp_path):
    other = tmp_path / "photos-2"  # no folder below `photos`, though its name begins alike
    shutil.copytree(photos, other)
    index_source(photos)
    index_source(other)
    shutil.rmtree(other)
    (photos / "a.png").unlink()
    assert [os.path.basename(p) for p in index_source(photos).removed] == ["a.png"]
    assert len(indexed(tmp_path)) == 11


def test_a_folder_that_is_indexed_alone_takes_only_its_own_out(photos, index_source, indexed):
    (photos / "sub").mkdir()
    for name in "ab":
        (photos / f"{name}.png").rename(photos / "sub" / f"{name}.png")
    index_source(photos)
    (photos / "sub" / "a.png").unlink()
    (photos / "c.png").unlink()
    assert len(index_source(photos / "sub").removed) == 1
    assert indexed() == sorted([*_names("cdef"), "sub/b.png"])


def test_hidden_images_that_were_indexed_by_themselves_stay(photos, index_source, indexed):
    (photos / ".hidden").mkdir()
    shutil.copy(photos / "a.png", photos / ".hidden" / "x.png")
    index_source(photos / ".hidden")
    shutil.copy(photos / "b.png", photos / ".hidden" / "x.png")
    assert index_source(photos).removed == []
    assert ".hidden/x.png" in indexed()


def test_a_changed_file_that_is_no_longer_listed_leaves_the_index(
    photos, index_source, indexed, embedder, tmp_path
):
    index_source(photos)
    (photos / "a.png").write_bytes(b"rubbish")
    os.utime(photos / "b.png", ns=(1, 1))  # the same image still, though not listed either
    records = [record for record in list_images(photos)[0] if record.path.name == "c.png"]
    with IndexWriter(tmp_path / "i", embedder.bundle) as writer:
        report = index_images(writer, embedder, records, source=photos)
    assert [os.path.basename(path) for path in report.removed] == ["a.png"]
    assert indexed() == _names("bcdef")


def test_images_whose_files_are_gone_are_kept_on_request(photos, index_source, indexed):
    index_source(photos)
    (photos / "a.png").unlink()
    (photos / "b.png").write_bytes(b"rubbish")  # that file is not missing
    report = index_source(photos, keep_missing=True)
    assert [os.path.basename(p) for p in report.removed] == ["b.png"]
    assert indexed() == _names("acdef")


@pytest.mark.parametrize("left", ["empty", "no folder", "other files"])
def test_a_folder_without_images_removes_nothing_unless_that_is_allowed(
    photos, index_source, indexed, left, embedder, tmp_path
):
    index_source(photos)
    shutil.rmtree(photos)
    if left != "no folder":
        photos.mkdir()
    if left == "other files":
        (photos / "notes.txt").write_text("not mounted")
    with pytest.raises(DataError, match="nothing was changed"):
        index_source(photos)
    with IndexWriter(tmp_path / "i", embedder.bundle) as writer:
        with pytest.raises(DataError, match=r"the index holds 6 of them; nothing was changed"):
            index_images(writer, embedder, [], source=photos)
    assert indexed() == _names("abcdef")
    assert len(index_source(photos, allow_empty=True).removed) == 6
    assert indexed() == []
    with pytest.raises(DataError, match="no images here, and none of it in the index"):
        index_source(photos, allow_empty=True)


def test_an_empty_folder_among_others_may_be_a_disk_that_is_not_mounted(
    photos, index_source, indexed
):
    (photos / "disk" / "deep").mkdir(parents=True)
    (photos / "album").mkdir()
    for old, new in (("a", "disk/deep/a"), ("b", "disk/b"), ("c", "album/c")):
        (photos / f"{old}.png").rename(photos / f"{new}.png")
    index_source(photos)
    shutil.rmtree(photos / "disk")
    (photos / "disk").mkdir()
    shutil.rmtree(photos / "album")  # a folder that was deleted
    report = index_source(photos)
    assert report.kept == {str((photos / "disk").resolve()): 2}
    assert [os.path.basename(p) for p in report.removed] == ["c.png"]
    assert indexed() == sorted([*_names("def"), "disk/b.png", "disk/deep/a.png"])
    report = index_source(photos, allow_empty=True)
    assert (len(report.removed), report.kept) == (2, {})
    assert indexed() == _names("def")


def test_an_emptied_folder_whose_images_are_elsewhere_is_no_question(photos, index_source, encoded):
    (photos / "old").mkdir()
    (photos / "a.png").rename(photos / "old" / "a.png")
    index_source(photos)
    encoded.clear()
    (photos / "old" / "a.png").rename(photos / "a.png")
    report = index_source(photos)
    assert (len(report.moved), report.kept, report.removed, encoded) == (1, {}, [], [])


def test_a_folder_that_became_a_link_keeps_its_embeddings(
    photos, index_source, indexed, encoded, tmp_path
):
    """It was moved to another disk, with a link in its place."""
    index_source(photos)
    encoded.clear()
    shutil.move(photos, tmp_path / "disk")
    photos.symlink_to(tmp_path / "disk")
    report = index_source(photos)
    assert (len(report.moved), report.added, report.removed, encoded) == (6, 0, [], [])
    assert indexed(tmp_path / "disk") == _names("abcdef")


def test_images_behind_links_are_removed_when_they_are_gone(
    photos, index_source, indexed, tmp_path
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (photos / "a.png").rename(elsewhere / "a.png")
    (photos / "a.png").symlink_to(elsewhere / "a.png")
    (photos / "b.png").rename(elsewhere / "b.png")
    (photos / "linked").symlink_to(elsewhere)
    index_source(elsewhere)
    index_source(photos)
    assert len(indexed()) == 6
    (elsewhere / "b.png").unlink()
    (elsewhere / "a.png").unlink()
    report = index_source(photos)  # `elsewhere` may be a disk that is not mounted
    assert report.kept == {str(elsewhere.resolve()): 2}
    assert len(index_source(photos, allow_empty=True).removed) == 2
    assert indexed() == _names("cdef")


def _write_captions(folder, captions):
    lines = [json.dumps({"image": f"{n}.png", "captions": texts}) for n, texts in captions.items()]
    (folder / "captions.jsonl").write_text("\n".join(lines))


def test_captions_go_with_their_renamed_images(photos, index_source, embedder, tmp_path, encoded):
    _write_captions(photos, {"a": ["con cá", "màu đỏ"], "b": ["ngôi nhà"]})
    index_source(photos)
    encoded.clear()
    (photos / "a.png").rename(photos / "x.png")
    (photos / "b.png").rename(photos / "y.png")
    _write_captions(photos, {"x": ["con cá", "màu đỏ"], "y": ["một ngôi nhà"]})
    report = index_source(photos)
    # The second one's captions changed, so that it is embedded again.
    assert (len(report.moved), report.added, len(report.removed), encoded) == (1, 1, 1, [1])
    with Index(tmp_path / "i", embedder.bundle) as index:
        for text, name in (("con cá", "x"), ("màu đỏ", "x"), ("một ngôi nhà", "y")):
            ((match,),) = index.search_captions(embedder.embed_texts([text]), 1)
            assert (match.caption, os.path.basename(match.path)) == (text, f"{name}.png")
            assert match.score == pytest.approx(1, abs=1e-4)
        assert (len(index), index.captions) == (2, 3)
    (photos / "captions.jsonl").unlink()
    (photos / "x.png").rename(photos / "z.png")
    assert len(index_source(photos).moved) == 1  # the folder says nothing about captions: they stay
    with Index(tmp_path / "i", embedder.bundle) as index:
        ((match,),) = index.search_captions(embedder.embed_texts(["con cá"]), 1)
        assert (match.caption, os.path.basename(match.path)) == ("con cá", "z.png")


def test_what_a_data_set_no_longer_names_leaves_the_index(photos, index_source, indexed):
    _write_captions(photos, {"a": ["con cá"], "b": ["ngôi nhà"]})
    index_source(photos)
    _write_captions(photos, {"a": ["con cá"]})
    assert [os.path.basename(p) for p in index_source(photos).removed] == ["b.png"]
    assert indexed() == ["a.png"]


def test_data_sets_that_link_to_one_folder_do_not_remove_each_others_images(
    photos, index_source, indexed, tmp_path
):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "images").symlink_to(photos)
        line = {"image": f"images/{name}.png", "captions": ["con cá"]}
        (tmp_path / name / "captions.jsonl").write_text(json.dumps(line))
        assert index_source(tmp_path / name, allow_outside=True).removed == []
    assert indexed() == _names("ab")


def test_captions_files_beside_each_other_do_not_remove_each_others_images(
    photos, index_source, indexed
):
    for name in "ab":
        _write_captions(photos, {name: ["con cá"]})
        (photos / "captions.jsonl").rename(photos / f"{name}.jsonl")
    index_source(photos / "a.jsonl")
    assert index_source(photos / "b.jsonl").removed == []
    assert indexed() == _names("ab")


def test_without_a_source_nothing_is_removed(photos, index_source, indexed, embedder, tmp_path):
    index_source(photos)
    (photos / "a.png").unlink()
    (photos / "b.png").write_bytes(b"rubbish")
    records, _ = list_images(photos)
    with IndexWriter(tmp_path / "i", embedder.bundle) as writer:
        report = index_images(writer, embedder, records)
    assert report.removed == []
    assert indexed() == _names("abcdef")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ServerError("gone")])
def test_a_run_that_is_cut_short_loses_no_embedding(
    photos, index_source, indexed, embedder, monkeypatch, scenes, error
):
    index_source(photos)
    (photos / "a.png").unlink()
    (photos / "b.png").rename(photos / "x.png")
    shutil.copy(sorted((scenes / "test" / "images").iterdir())[7], photos / "new.png")
    with monkeypatch.context() as patch:

        def fail(pixels):
            raise error

        patch.setattr(embedder.towers, "encode_image", fail)
        if error is KeyboardInterrupt:
            assert index_source(photos).interrupted
        else:
            with pytest.raises(ServerError):
                index_source(photos)
    assert indexed() == sorted([*_names("acdef"), "x.png"])
    report = index_source(photos)
    assert (report.added, len(report.removed), report.moved) == (1, 1, [])
    assert indexed() == sorted([*_names("cdef"), "new.png", "x.png"])


_KILLED_RUN = """
import os, signal, sys
from pathlib import Path
from vireo_client.bundle import Bundle
from vireo_client.index import IndexWriter, storage
from vireo_client.index.committed import Committed
from vireo_client.index.writable import WritableCatalogue
from vireo_client.indexing.pipeline import index_images
from vireo_client.indexing.sources import list_images
from vireo_client.search import open_embedder

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

folder, source, model, moment = sys.argv[1:]
bundle = Bundle(model)
with open_embedder(bundle, None) as embedder, IndexWriter(folder, bundle) as writer:
    plain_move, plain_remove = IndexWriter.move, WritableCatalogue.remove_images
    if moment == "moved":
        IndexWriter.move = lambda *a: (plain_move(*a), die())
    elif moment == "before-vectors":
        storage._write_array = die
    elif moment == "inside-transaction":
        WritableCatalogue.remove_images = lambda *a: (plain_remove(*a), die())
    elif moment == "after-commit":
        Committed._settle = die
    index_images(writer, embedder, list_images(Path(source))[0], source=Path(source))
"""


@pytest.mark.parametrize(
    ("moment", "lasting"),
    [
        ("moved", False),
        ("before-vectors", False),
        ("inside-transaction", False),
        ("after-commit", True),
    ],
)
def test_a_kill_at_any_moment_loses_no_embedding(
    photos, index_source, indexed, encoded, embedder, tmp_path, moment, lasting
):
    index_source(photos)
    (photos / "a.png").unlink()
    (photos / "b.png").rename(photos / "x.png")
    words = [tmp_path / "i", photos, embedder.bundle.folder, moment]
    done = subprocess.run(
        [sys.executable, "-c", _KILLED_RUN, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert indexed() == (_names("cdefx") if lasting else _names("abcdef"))
    encoded.clear()
    report = index_source(photos)
    assert (len(report.moved), len(report.removed), encoded) == (*(1 - lasting,) * 2, [])
    assert indexed() == _names("cdefx")
