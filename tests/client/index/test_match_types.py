"""`Match` and `Matches`: arrays that are a sequence, and what they become."""

import copy
import io
import json
import pickle

import numpy as np
import pytest
from rich.console import Console
from vireo_client.errors import VireoError
from vireo_client.index.matches import Match, Matches


@pytest.fixture
def matches():
    return Matches(
        [7, 3, 12],
        [0.75, 0.5, 0.25],
        ["a.jpg", "b.jpg", "c.jpg"],
        relevance=[1.0, 0.5, 0.0],
        metadata=[{"make": "Canon", "path": "x"}, {}, {"width": 40}],
    )


def test_the_first_four_fields_are_the_older_ones():
    assert Match(1, 0.5, "a.jpg") == (1, 0.5, "a.jpg", None, 0, None, {})
    assert Match._fields == ("rank", "score", "path", "caption", "id", "relevance", "metadata")


def test_matches_without_metadata_share_nothing_that_can_be_changed():
    first, second = Match(1, 0.5, "a.jpg"), Match(1, 0.5, "a.jpg")
    changes = (
        lambda m: m.__setitem__("x", 1), lambda m: m.update(x=1), lambda m: m.setdefault("x", 1),
        lambda m: m.__ior__({"x": 1}),
    )  # fmt: skip
    for change in changes:
        with pytest.raises(TypeError, match="copy it with dict"):
            change(first.metadata)
    assert second.metadata == {}
    assert dict(first.metadata) is not first.metadata
    assert copy.deepcopy(first) == pickle.loads(pickle.dumps(first)) == first
    assert json.loads(json.dumps(first._asdict()))["metadata"] == {}


def test_equal_matches_have_equal_hashes(matches):
    assert len({matches[0], matches[0], matches[1]}) == 2


def test_they_are_a_sequence_of_match(matches):
    assert len(matches) == 3
    assert matches[0] == Match(1, 0.75, "a.jpg", None, 7, 1.0, {"make": "Canon", "path": "x"})
    assert matches[-1].rank == 3
    assert [match.path for match in reversed(matches)] == ["c.jpg", "b.jpg", "a.jpg"]
    assert matches[1] in matches
    assert matches.index(matches[2]) == 2
    assert isinstance(matches[0].score, float)
    assert isinstance(matches[0].id, int)
    with pytest.raises(IndexError):
        matches[3]


def test_a_slice_keeps_its_ranks(matches):
    rest = matches[1:]
    assert isinstance(rest, Matches)
    assert rest.ids.tolist() == [3, 12]
    assert [match.rank for match in rest] == [2, 3]
    assert list(rest) == list(matches)[1:]
    assert [match.rank for match in matches[::-1]] == [3, 2, 1]
    assert matches[5:] == []


def test_what_is_kept_is_numbered_anew(matches):
    kept = matches.where(np.array([True, False, True]))
    assert [(match.rank, match.id) for match in kept] == [(1, 7), (2, 12)]


def test_they_equal_lists_of_equal_matches(matches):
    assert matches == list(matches) == matches[:]
    assert matches != list(matches)[:2]
    assert matches != [*list(matches)[:2], Match(3, 0.25, "d.jpg")]
    assert matches != "abc"
    assert [Matches([], [], [])] == [[]]


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="2 ids, but 1 paths"):
        Matches([1, 2], [0.5, 0.25], ["a.jpg"])
    with pytest.raises(ValueError, match="1 ids, but 2 relevance"):
        Matches([1], [0.5], ["a.jpg"], relevance=[0.5, 0.5])


def test_their_dicts_are_json(matches):
    first, second, _ = json.loads(json.dumps(matches.to_dicts()))
    assert first == {
        "rank": 1, "score": 0.75, "path": "a.jpg", "caption": None, "id": 7, "relevance": 1.0,
        "metadata": {"make": "Canon", "path": "x"},
    }  # fmt: skip
    assert second["metadata"] == {}
    first = matches.to_dicts()[0]
    first["metadata"]["make"] = "changed"
    assert matches[0].metadata["make"] == "Canon"


def test_their_pandas_table_has_a_column_a_field(matches):
    pytest.importorskip("pandas")
    table = matches.to_pandas()
    assert table.columns.tolist() == [
        "rank", "score", "relevance", "path", "id", "make", "path_metadata", "width",
    ]  # fmt: skip
    assert table["path"].tolist() == ["a.jpg", "b.jpg", "c.jpg"]
    assert table["width"].tolist()[2] == 40
    assert len(Matches([], [], []).to_pandas()) == 0


def test_without_pandas_the_error_says_what_to_install(matches, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(VireoError, match="pip install pandas"):
        matches.to_pandas()


def test_a_table_shows_hostile_names_as_they_are():
    matches = Matches([1], [0.5], ["[red]x[/y]\x1b[2Jz.jpg"], ["câu \x07"])
    out = io.StringIO()
    Console(file=out, width=100, force_terminal=True).print(matches.to_table())
    assert "[red]x[/y]\\x1b[2Jz.jpg" in out.getvalue()
    assert "câu \\x07" in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()
