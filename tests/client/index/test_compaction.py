"""Merging of segments: by a save where there are many, and by a compaction."""

from contextlib import closing

import numpy as np
import pytest
from support.small_index import best, best_caption, new_image, unit
from vireo_client.errors import DataError, SearchIndexError
from vireo_client.index import Index, IndexWriter, loading, storage
from vireo_client.index.catalogue import CATALOGUE_FILE, Catalogue
from vireo_client.index.kinds import SearchSettings


def _layout(folder):
    with closing(Catalogue(folder / CATALOGUE_FILE)) as catalogue:
        return catalogue.layout()


def _rows(folder, part="images"):
    return sorted(s.rows for s in _layout(folder).segments if s.part == part)


def _files(folder):
    return {path.name for path in (folder / "segments").iterdir()}


def test_a_compaction_leaves_one_segment_a_part_without_removed_rows(tmp_path, small_bundle):
    folder = tmp_path / "i"
    with IndexWriter(folder, small_bundle) as writer:
        for n in range(1, 6):
            writer.add([new_image(f"{n}.jpg", n, captions=2)])
            writer.save()
        writer.remove(["2.jpg", "4.jpg"])
        writer.add([new_image("6.jpg", 6)])
        writer.compact()
        assert (len(writer), writer.captions) == (4, 6)
        layout = _layout(folder)
        assert [(s.part, s.rows) for s in layout.segments] == [("images", 4), ("captions", 6)]
        assert layout.removed == {}
        assert _files(folder) == {name for s in layout.segments for name in s.files}
        writer.add([new_image("1.jpg", 7)])
        writer.save()
    with Index(folder, small_bundle) as index:
        assert [best(index, n)[0] for n in (3, 5, 6, 7)] == ["3.jpg", "5.jpg", "6.jpg", "1.jpg"]
        assert best(index, 1)[1] < 0.9
        assert best_caption(index, 5001) == ("5.jpg câu 1", 1)


def test_a_compaction_of_nothing_leaves_no_segment(tmp_path, small_bundle):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.compact()
        writer.add([new_image("a.jpg", 1, captions=1)])
        writer.save()
        writer.remove(["a.jpg"])
        writer.compact()
    assert _layout(tmp_path / "i").segments == []
    assert _files(tmp_path / "i") == set()
    with Index(tmp_path / "i", small_bundle) as index:
        assert index.search_images(unit(1)[None], 3) == [[]]


def test_saves_keep_the_number_of_segments_small(tmp_path, small_bundle):
    folder = tmp_path / "i"
    counts = []
    with IndexWriter(folder, small_bundle) as writer:
        for n in range(1, 41):
            writer.add([new_image(f"{n}.jpg", n)])
            if n % 3 == 0:
                writer.remove([f"{n - 1}.jpg"])
            writer.save()
            counts.append(len(_rows(folder)))
            assert len(_files(folder)) == 3 * counts[-1]
    assert max(counts) <= 9
    left = [n for n in range(1, 41) if n % 3 != 2]
    with Index(folder, small_bundle) as index:
        assert len(index) == len(left)
        assert all(best(index, n) == (f"{n}.jpg", 1) for n in left)


def test_a_reader_moves_on_over_a_compaction(tmp_path, small_bundle):
    folder = tmp_path / "i"
    with IndexWriter(folder, small_bundle) as writer:
        writer.add([new_image("a.jpg", 1, captions=1), new_image("b.jpg", 2)])
        writer.save()
        with Index(folder, small_bundle) as index:
            writer.remove(["b.jpg"])
            writer.compact()
            assert [m.path for m in index.search_images(unit(2)[None], 5)[0]] == ["a.jpg"]
            assert not index.refresh()


@pytest.mark.parametrize("moment", ["images", "captions"])
def test_a_compaction_while_a_reader_loads_makes_it_load_the_newer_state(
    tmp_path, small_bundle, monkeypatch, moment
):
    """The writer sweeps away the files that the reader was about to read."""
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.add([new_image("a.jpg", 1, captions=1)])
        writer.save()
        plain, saves = loading.open_segment, []

        def open_segment(folder, entry, *words, structures=True, **options):
            if structures and entry.part == moment and len(saves) < 3:
                saves.append(entry)
                number = 1 + len(saves)
                writer.add([new_image(f"{number}.jpg", number, captions=1)])
                writer.compact()
            return plain(folder, entry, *words, structures=structures, **options)

        monkeypatch.setattr(loading, "open_segment", open_segment)
        with Index(tmp_path / "i", small_bundle) as index:
            assert (len(index), index.captions) == (4, 4)
            assert [best(index, n)[0] for n in range(1, 5)] == ["a.jpg", "2.jpg", "3.jpg", "4.jpg"]
            assert best_caption(index, 4000) == ("4.jpg câu 0", 1)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_compaction_that_is_cut_short_leaves_the_index(
    tmp_path, small_bundle, monkeypatch, error
):
    folder = tmp_path / "i"
    with IndexWriter(folder, small_bundle) as writer:
        for n in (1, 2):
            writer.add([new_image(f"{n}.jpg", n, captions=1)])
            writer.save()
        before = _layout(folder)
        plain = storage._write_array

        def fail(path, *words):
            if path.name.startswith("captions"):
                raise error
            return plain(path, *words)

        with monkeypatch.context() as patch:
            patch.setattr(storage, "_write_array", fail)
            raised = SearchIndexError if isinstance(error, OSError) else KeyboardInterrupt
            with pytest.raises(raised):
                writer.compact()
        assert [s.name for s in _layout(folder).segments] == [s.name for s in before.segments]
        with Index(folder, small_bundle) as index:
            assert [best(index, n)[0] for n in (1, 2)] == ["1.jpg", "2.jpg"]
        writer.compact()
    assert _rows(folder) == [2]


def test_small_segments_that_cannot_be_merged_do_not_fail_a_save(
    tmp_path, small_bundle, monkeypatch, caplog
):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        for n in range(1, 9):
            writer.add([new_image(f"{n}.jpg", n)])
            writer.save()

        def full(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("vireo_client.index.compaction.merge", full)
            writer.add([new_image("9.jpg", 9)])
            writer.save()
        assert "small segments stay as they are" in caplog.text
        assert _rows(tmp_path / "i") == [1] * 9
        writer.add([new_image("10.jpg", 10)])
        writer.save()
    assert _rows(tmp_path / "i") == [10]
    with Index(tmp_path / "i", small_bundle) as index:
        assert np.mean([best(index, n)[1] for n in range(1, 11)]) == 1


def _many(writer, start, stop):
    writer.add([new_image(f"{n}.jpg", n) for n in range(start, stop)])
    writer.save()


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_a_compacted_kind_answers_with_what_was_added_and_removed_since(
    tmp_path, small_bundle, kind
):
    folder = tmp_path / "i"
    with IndexWriter(folder, small_bundle) as writer:
        _many(writer, 0, 2000)
        writer.compact(kind, target_recall=0.9)
        (segment,) = _layout(folder).segments
        assert segment.kind == kind
        assert segment.settings["recall@10"] >= 0.9
        assert f"{segment.name}.{kind}.faiss" in _files(folder)
        with Index(folder, small_bundle) as index:
            assert best(index, 1500) == ("1500.jpg", 1)
            writer.remove([f"{n}.jpg" for n in range(1000, 2000)])
            _many(writer, 2000, 2010)
            assert best(index, 2005) == ("2005.jpg", 1)
            assert best(index, 1500)[1] < 0.9
            assert best(index, 500) == ("500.jpg", 1)
            found = index.search_images(unit(1500)[None], 50, search=SearchSettings(exact=True))[0]
            assert len(found) == 50
            assert all(int(m.path[:-4]) not in range(1000, 2000) for m in found)
    with Index(folder, small_bundle) as index:
        assert best(index, 500) == ("500.jpg", 1)


def test_a_compaction_is_due_when_a_quarter_is_in_no_structure(tmp_path, small_bundle):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        _many(writer, 0, 1000)
        assert not writer.compact_if_due()  # so few are compared one by one anyway
        writer.compact("hnsw", 0.8)
        _many(writer, 1000, 1200)
        assert not writer.compact_if_due()
        _many(writer, 1200, 1400)
        assert writer.compact_if_due()
        (segment,) = _layout(tmp_path / "i").segments
        assert (segment.kind, segment.rows) == ("hnsw", 1400)
        assert segment.settings["target_recall"] == 0.8
        writer.remove([f"{n}.jpg" for n in range(400)])
        assert writer.compact_if_due()
        assert _rows(tmp_path / "i") == [1000]


def test_an_unknown_kind_is_refused(tmp_path, small_bundle):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        _many(writer, 0, 3)
        with pytest.raises(DataError, match="'tree' is no kind of index"):
            writer.compact("tree")
        assert len(_files(tmp_path / "i")) == 3


@pytest.mark.parametrize("wrong", [{"kind": "tree"}, {"target_recall": 1.5}])
def test_what_is_refused_is_refused_before_anything_is_written(
    tmp_path, small_bundle, monkeypatch, wrong
):
    """An empty index, too, remembers nothing that a later compaction would stumble over."""
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        with pytest.raises(DataError):
            writer.compact(**wrong)
        assert not writer.compact_if_due()
        _many(writer, 0, 3)
        monkeypatch.setattr(storage, "_write_array", None)
        with pytest.raises(DataError):
            writer.compact(**wrong)
