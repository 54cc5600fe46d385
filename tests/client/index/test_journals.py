"""What killed writers added and did not save."""

import pytest
from support.small_index import best, new_image
from vireo_client.errors import SearchIndexError
from vireo_client.index import Index, IndexWriter, storage
from vireo_client.index.journal import Journal


def _as_if_killed(folder, bundle, *images):
    """Leave the journal of a writer that added images and was killed."""
    with IndexWriter(folder, bundle) as writer:
        writer.add(images)
        (journal,) = folder.glob("journal-*.bin")
        data = journal.read_bytes()
    journal.write_bytes(data)


def test_what_a_killed_writer_added_is_saved_by_the_next(tmp_path, small_bundle):
    folder = tmp_path / "i"
    with IndexWriter(folder, small_bundle) as writer:
        writer.add([new_image("a.jpg", 1), new_image("b.jpg", 2)])
        writer.save()
    image = new_image("b.jpg", 3, captions=2, size=2)._replace(fields={"note": "phố cổ"})
    _as_if_killed(folder, small_bundle, image)
    with IndexWriter(folder, small_bundle) as writer:
        assert (len(writer), writer.captions) == (2, 2)
    assert not list(folder.glob("journal-*"))
    with Index(folder, small_bundle) as index:
        assert [best(index, n)[0] for n in (1, 3)] == ["a.jpg", "b.jpg"]
        assert index.search_words("pho co", 1)[0].path == "b.jpg"


def test_a_full_disk_does_not_keep_a_writer_from_opening(
    tmp_path, small_bundle, monkeypatch, caplog
):
    """It may have come to sweep, or to remove images."""
    folder = tmp_path / "i"
    _as_if_killed(folder, small_bundle, new_image("a.jpg", 1))

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "_write_array", full)
        with IndexWriter(folder, small_bundle) as writer:
            assert len(writer) == 1
        assert "not saved yet" in caplog.text
        assert "No space left" in caplog.text
    assert list(folder.glob("journal-*"))
    with IndexWriter(folder, small_bundle) as writer:
        assert len(writer) == 1
    with Index(folder, small_bundle) as index:
        assert best(index, 1) == ("a.jpg", 1)


def test_a_batch_that_fits_no_more_is_passed_over(tmp_path, small_bundle, caplog):
    folder = tmp_path / "i"
    with IndexWriter(folder, small_bundle) as writer:
        writer.add([new_image("a.jpg", 1)._replace(fields={"iso": 100})])
        (journal,) = folder.glob("journal-*.bin")
        data = journal.read_bytes()
    with IndexWriter(folder, small_bundle) as writer:
        writer.add([new_image("b.jpg", 2)._replace(fields={"iso": "hundred"})])
        writer.save()
    journal.write_bytes(data)
    with IndexWriter(folder, small_bundle) as writer:
        assert len(writer) == 1
    assert "a batch is passed over (a.jpg: column 'iso'" in caplog.text


@pytest.mark.parametrize("renamed", [False, True])
def test_what_a_journal_holds_and_the_index_too_is_not_added_again(
    tmp_path, small_bundle, monkeypatch, renamed
):
    """A kill between the commit and the removal of the journal."""
    folder = tmp_path / "i"
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "clear", lambda _: None)
        with IndexWriter(folder, small_bundle) as writer:
            writer.add([new_image("a.jpg", 1), new_image("b.jpg", 2)])
            writer.save()
    (journal,) = folder.glob("journal-*.bin")
    if renamed:  # so that `meta` does not name it
        journal.rename(folder / "journal-0.bin")
    with IndexWriter(folder, small_bundle):
        pass
    assert not list(folder.glob("journal-*"))
    with Index(folder, small_bundle) as index:
        assert (len(index), index._opened.vectors.state.generation) == (2, 1)


def test_an_addition_whose_journal_cannot_be_written_is_refused(
    tmp_path, small_bundle, monkeypatch
):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Journal, "append", full)
        with pytest.raises(
            SearchIndexError, match=r"cannot be written.*No space left.*nothing was added"
        ):
            writer.add([new_image("a.jpg", 1)])
        assert len(writer) == 0


def test_a_journal_that_cannot_be_removed_does_not_keep_the_lock(
    tmp_path, small_bundle, monkeypatch
):
    writer = IndexWriter(tmp_path / "i", small_bundle)
    writer.add([new_image("a.jpg", 1)])

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "clear", refuse)
        with pytest.raises(PermissionError):
            writer.close()
    with IndexWriter(tmp_path / "i", small_bundle) as again:
        assert len(again) == 1  # what the journal holds is not lost
