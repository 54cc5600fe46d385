"""How both clients change an index, and what they do when others change it."""

import os
import shutil

import pytest
from support.bundles import write_repository
from support.clients import CLIENTS, open_client
from vireo_client.errors import DataError, IndexLocked, SearchIndexError, VireoError
from vireo_client.index import IndexWriter


def test_images_are_added_found_and_removed(writable, photo):
    new = photo("new.png", seed=9)
    assert writable.search_by_image(new, 1)[0].score < 0.9999
    report = writable.add([new], captions=["một ảnh mới tinh"])
    assert (report.added, report.captions, report.skipped) == (1, 1, [])
    (match,) = writable.search_by_image(new, 1)
    assert (match.path, round(match.score, 3)) == (str(new.resolve()), 1)
    assert writable.similar_captions("một ảnh mới tinh", 1)[0].path == match.path
    assert writable.add([new], captions=[["một ảnh mới tinh"]]).unchanged == 1
    assert writable.remove([match.path, new]) == 1
    assert writable.search_by_image(new, 1)[0].path != match.path
    assert new.is_file()


def test_it_tells_what_the_index_holds(writable, photo):
    assert (writable.info().images, writable.info().captions) == (6, 6)
    writable.add([photo()])
    assert writable.info().images == 7
    assert not writable.refresh()  # what it added itself is there already


def test_what_cannot_be_added_or_removed_is_named(writable, photo, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    report = writable.add([tmp_path / "bad.png", photo("good.png")])
    assert report.added == 1
    assert [skip.where.endswith("bad.png") for skip in report.skipped] == [True]
    before = len(writable.search("xe", 100))
    with pytest.raises(DataError, match=r"gone.jpg: not in the index .*; nothing was removed"):
        writable.remove([tmp_path / "good.png", "gone.jpg"])
    assert len(writable.search("xe", 100)) == before
    with pytest.raises(DataError, match="2 images, but 1 captions"):
        writable.add(["a.jpg", "b.jpg"], captions=["một"])
    for change in (writable.add, writable.remove):
        with pytest.raises(DataError, match="put it in a list"):
            change("a.jpg")
    assert writable.remove([]) == 0


def test_a_writer_elsewhere_keeps_the_client_from_writing(writable, folder, repository, photo):
    with IndexWriter(folder, repository):
        with pytest.raises(IndexLocked, match=str(os.getpid())):
            writable.add([photo()])
        assert len(writable.search("xe", 3)) == 3
    assert writable.add([photo()]).added == 1


def test_what_another_writer_saved_is_there_after_a_refresh(writable, folder, repository, photo):
    assert len(writable.search("xe", 100)) == 6  # opens it, too
    with open_client("threads", folder, model=repository.folder) as other:
        other.add([photo()])
    assert writable.refresh()
    assert not writable.refresh()
    assert len(writable.search("xe", 100)) == 7


def test_an_index_that_is_made_anew_is_followed(writable, folder, repository):
    assert len(writable.search("xe", 100)) == 6
    shutil.rmtree(folder)
    IndexWriter(folder, repository).close()
    assert writable.search("xe", 100) == []


def test_an_index_of_another_bundle_in_its_place_is_refused(writable, folder, tmp_path):
    other = write_repository(tmp_path / "other", "another-bundle")
    shutil.rmtree(folder)
    IndexWriter(folder, other).close()
    with pytest.raises(SearchIndexError, match="another-bundle"):
        writable.search("xe")


def test_an_index_that_was_deleted_is_an_error_and_not_made_anew(writable, folder, photo):
    writable.search("xe")  # opens it, too
    shutil.rmtree(folder)
    with pytest.raises(VireoError, match=folder.name):
        writable.search("xe")
    for change in (writable.add, writable.remove):
        with pytest.raises(SearchIndexError, match="no index here"):
            change([photo()])
    assert not folder.exists()


def test_a_closed_client_says_so(made):
    for kind in CLIENTS:
        with open_client(kind, made) as client:
            client.close()
            client.close()
            uses = (
                lambda c: c.search("xe"), lambda c: c.search_many(["xe"]), lambda c: c.refresh(),
                lambda c: c.info(),
                lambda c: c.search_by_image(b""), lambda c: c.embed_texts(["xe"]),
                lambda c: c.add(["a.jpg"]), lambda c: c.remove(["a.jpg"]),
            )  # fmt: skip
            for use in uses:
                with pytest.raises(SearchIndexError, match="closed"):
                    use(client)
