import os
import shutil
import sqlite3

import pytest
from support.small_index import new_image, write_index, write_small_bundle
from vireo_client.bundle import Bundle
from vireo_client.errors import SearchIndexError, VireoError
from vireo_client.index import IndexWriter
from vireo_client.index.bundle_files import open_bundle
from vireo_client.index.catalogue import CATALOGUE_FILE


def _write(folder, bundle):
    write_index(folder, bundle, new_image("a.jpg", 1))


def test_an_index_keeps_the_small_files_of_its_bundle_and_no_others(tmp_path, small_bundle):
    for large in ("model.safetensors", "model.onnx", "parity.json"):
        (small_bundle.folder / large).touch()
    _write(tmp_path / "i", small_bundle)
    assert sorted(os.listdir(tmp_path / "i" / "bundle")) == [
        "bundle.json", "tokenizer.json", "vi-vocab"
    ]  # fmt: skip
    own = open_bundle(tmp_path / "i", engines=False)
    assert own.folder == tmp_path / "i" / "bundle"
    assert own.config == small_bundle.config


def test_no_absolute_path_is_recorded(tmp_path, small_bundle):
    _write(tmp_path / "i", small_bundle)
    with sqlite3.connect(tmp_path / "i" / CATALOGUE_FILE) as db:
        values = [row[0] for row in db.execute("SELECT value FROM meta")]
    db.close()
    assert not [value for value in values if str(tmp_path) in value]


def test_files_of_the_same_bundle_that_changed_are_replaced(tmp_path, small_bundle):
    _write(tmp_path / "i", small_bundle)
    again = write_small_bundle(tmp_path / "model_repository", recall=0.5)
    _write(tmp_path / "i", again)
    assert Bundle(tmp_path / "i" / "bundle").config.metrics == {"recall": 0.5}


def test_an_index_is_extended_with_the_files_that_it_keeps(tmp_path, small_bundle):
    """As through Triton, where no repository is at hand. Where it lay stays recorded."""
    _write(tmp_path / "i", small_bundle)
    _write(tmp_path / "i", open_bundle(tmp_path / "i", engines=False))
    assert open_bundle(tmp_path / "i", engines=True).folder == small_bundle.folder


@pytest.mark.parametrize("place", ["as before", "beside", "beside the parent", "working directory"])
def test_a_repository_is_found_where_it_may_have_been_moved_to(
    tmp_path, small_bundle, place, monkeypatch
):
    index = tmp_path / "indexes" / "photos"
    _write(index, small_bundle)
    there = tmp_path / "another" / "place" / "photos"
    there.parent.mkdir(parents=True)
    index.rename(there)
    elsewhere = tmp_path / "working"
    elsewhere.mkdir()
    target = {
        "as before": there.parent.parent,
        "beside": there.parent,
        "beside the parent": there.parent.parent,
        "working directory": elsewhere,
    }[place] / "model_repository"
    if place == "as before":  # at the same place as seen from the index, below another folder
        assert target == there.parent.parent / small_bundle.folder.name
    small_bundle.folder.rename(target)
    monkeypatch.chdir(elsewhere)
    assert open_bundle(there, engines=True).folder == target


def test_a_repository_far_from_the_index_is_found_without_being_named(tmp_path, monkeypatch):
    bundle = write_small_bundle(tmp_path / "runs" / "one" / "model_repository")
    _write(tmp_path / "photos" / "index", bundle)
    monkeypatch.chdir(tmp_path / "photos")
    assert open_bundle("index", engines=True).folder == bundle.folder


def test_a_repository_of_another_bundle_is_passed_over(tmp_path, small_bundle, monkeypatch):
    monkeypatch.chdir(tmp_path)
    index = tmp_path / "a" / "i"
    _write(index, small_bundle)
    small_bundle.folder.rename(tmp_path / "gone")
    write_small_bundle(tmp_path / "model_repository", "another-bundle")
    (tmp_path / "a" / "model_repository").mkdir()
    (tmp_path / "a" / "model_repository" / "bundle.json").write_text("{")
    with pytest.raises(SearchIndexError) as raised:
        open_bundle(index, engines=True)
    message = str(raised.value)
    assert f"{tmp_path / 'model_repository'} (of bundle another-bundle)" in message
    assert f"{tmp_path / 'a' / 'model_repository'} (" in message
    assert "cannot be read" in message
    assert message.endswith("give its folder with --model")

    shutil.rmtree(tmp_path / "a" / "model_repository")
    (tmp_path / "gone").rename(tmp_path / "a" / "model_repository")
    assert open_bundle(index, engines=True).folder == tmp_path / "a" / "model_repository"


def test_where_nothing_is_found_the_error_names_every_place(tmp_path, small_bundle, monkeypatch):
    _write(tmp_path / "x" / "y" / "i", small_bundle)
    shutil.rmtree(small_bundle.folder)
    (tmp_path / "w").mkdir()
    monkeypatch.chdir(tmp_path / "w")
    with pytest.raises(SearchIndexError, match=r"small-bundle\) was not found") as raised:
        open_bundle(tmp_path / "x" / "y" / "i", engines=True)
    for place in (tmp_path, tmp_path / "x" / "y", tmp_path / "x", tmp_path / "w"):
        assert f"{place / 'model_repository'} (none there)" in str(raised.value)


def test_a_missing_index_is_an_error(tmp_path):
    for engines in (False, True):
        with pytest.raises(SearchIndexError, match="no index here"):
            open_bundle(tmp_path / "i", engines=engines)


def test_a_folder_bundle_that_is_no_bundle_is_not_overwritten(tmp_path, small_bundle):
    _write(tmp_path / "i", small_bundle)
    shutil.rmtree(tmp_path / "i" / "bundle")
    (tmp_path / "i" / "bundle").mkdir()
    (tmp_path / "i" / "bundle" / "mine.txt").touch()
    with pytest.raises(VireoError, match=r"holds no bundle\.json"):
        IndexWriter(tmp_path / "i", small_bundle)
    assert os.listdir(tmp_path / "i" / "bundle") == ["mine.txt"]
