"""What both clients find: the same verbs, options, answers and errors, in process."""

import numpy as np
import pytest
from PIL import Image
from support.clients import assert_near
from vireo_client.errors import DataError, ImageError
from vireo_client.index import Index
from vireo_client.telemetry import snapshot

PIXELS = np.zeros((9, 7, 3), np.uint8)


def _paths(matches):
    return [match.path for match in matches]


def test_a_query_finds_the_nearest_images(client, made, repository):
    with Index(made, repository) as index:
        expected = index.search_images(client.embed_texts(["hai con chó"]), 3)[0]
    matches = client.search("hai con chó", k=3)
    assert_near(matches, expected)
    assert_near(client.search("hai con chó", 3), matches)
    assert [match.rank for match in matches] == [1, 2, 3]


def test_several_queries_are_answered_as_each_alone(client):
    texts = ["hai con chó", "một con mèo trên bàn", "xe"]
    together = client.search_many(texts, 4)
    for text, matches in zip(texts, together, strict=True):
        assert_near(matches, client.search(text, 4))
    assert client.search_many([]) == []


def test_an_image_is_the_same_as_path_bytes_pillow_and_pixels(client, made):
    path = made.parent / "photos" / "3.png"
    with Image.open(path) as file:
        image = file.convert("RGB")
    for source in (path, str(path), path.read_bytes(), image, np.asarray(image)):
        matches = client.search_by_image(source, 2)
        assert matches[0].path == str(path.resolve())
        assert matches[0].score == pytest.approx(1, abs=1e-4)
        assert_near(client.search(image=source, k=2), matches)


def test_text_and_image_are_the_weighted_sum_of_their_vectors(client, made, repository):
    path = made.parent / "photos" / "3.png"
    text, image = client.embed_texts(["con mèo"])[0], client.embed_images([path])[0]
    with Index(made, repository) as index:
        for weights in ((0.5, 0.5), (3, 1), (0, 1), (1, 0)):
            mixed = weights[0] * text + weights[1] * image
            expected = index.search_images((mixed / np.linalg.norm(mixed))[None], 6)[0]
            assert_near(client.search("con mèo", 6, image=path, weights=weights), expected)


def test_captions_of_an_image_and_of_a_caption(client, made):
    described = client.describe(made.parent / "photos" / "2.png", 3)
    assert all(match.caption for match in described)
    (alike,) = client.similar_captions("ảnh số 2", 1)
    assert alike.caption == "ảnh số 2"
    assert alike.path.endswith("2.png")
    assert alike.score == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    "weights", [(float("nan"), 1), (-1, 2), (0, 0), (float("inf"), 1), (1,), "ab", None, 3]
)
def test_weights_that_count_nothing_are_refused(client, made, weights):
    with pytest.raises(DataError, match=r"weights are .*; give two numbers"):
        client.search("xe", image=made.parent / "photos" / "3.png", weights=weights)


def test_text_and_image_that_say_the_opposite_are_refused():
    from vireo_client.queries import mix

    vectors = np.eye(3, dtype=np.float32)
    with pytest.raises(DataError, match="cancel each other out"):
        mix(vectors, -vectors)
    assert np.allclose(mix(vectors, -vectors, (2, 1)), vectors)


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda c: c.search(), DataError, "give a text, an image, or both"),
        (lambda c: c.search(""), DataError, "holds no text that the model's tokenizer knows"),
        (lambda c: c.search("👍👍"), DataError, "holds no text that the model's tokenizer knows"),
        (lambda c: c.search(image=b"", hybrid=True), DataError, "give a text"),
        (lambda c: c.search("xe", filter="nope = 1"), DataError, "nope"),
        (lambda c: c.search("xe", hybrid=True, k=0), DataError, "k is 0"),
        (
            lambda c: c.search_by_image(PIXELS, min_relevance=0.5), DataError,
            "relevance of these matches",
        ),
        (lambda c: c.describe(PIXELS, min_relevance=0.5), DataError, "relevance of these matches"),
        (lambda c: c.search(5), DataError, "of type int; it must be str"),
        (lambda c: c.search("xe", k=0), DataError, "k is 0; give the number of matches"),
        (lambda c: c.search("xe", k=2.5), DataError, "k is 2.5"),
        (lambda c: c.search_many("xe"), DataError, "put it in a list"),
        (lambda c: c.search_many(["xe", ""]), DataError, "text 1: holds no text"),
        (lambda c: c.search_by_image("gone.jpg"), ImageError, "gone.jpg: no such file"),
        (lambda c: c.search_by_image(b""), ImageError, "no bytes at all"),
        (lambda c: c.search_by_image(b"x" * 99), ImageError, "no format that Pillow knows"),
        (
            lambda c: c.search_by_image(np.zeros((4, 4), np.uint8)),
            ImageError, r"an array of uint8, 4 x 4; give RGB as UINT8 \[H, W, 3\]",
        ),
        (lambda c: c.search_by_image(np.zeros((4, 4, 3))), ImageError, "an array of float64"),
        (lambda c: c.search_by_image(np.zeros((0, 4, 3), np.uint8)), ImageError, "0 x 4 x 3"),
        (lambda c: c.embed_images("a.jpg"), DataError, "put it in a list"),
        (lambda c: c.embed_images(np.zeros((4, 4, 3), np.uint8)), DataError, "put it in a list"),
        (lambda c: c.search("xe", min_relevance=1.5), DataError, "min_relevance is 1.5"),
        (lambda c: c.search("xe", min_relevance="a"), DataError, "min_relevance is 'a'"),
        (lambda c: c.search("xe", minimum=1), TypeError, "unknown option 'minimum'"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_an_error_that_says_so(client, ask, error, message):
    with pytest.raises(error, match=message):
        ask(client)


def test_a_query_of_ten_thousand_characters_is_cut(client):
    assert len(client.search("hai con chó chạy " * 600, 3)) == 3


def test_a_filter_keeps_to_the_images_of_which_it_holds(writable, photo):
    paths = [photo(f"new/{number}.png", seed=50 + number) for number in range(4)]
    fields = [{"album": "Huế", "year": 2020 + number} for number in range(4)]
    assert writable.add(paths, fields=fields).added == 4
    for filter_ in ('album = "Huế" and year >= 2022', {"album": "Huế", "year": {"gte": 2022}}):
        matches = writable.search("xe", 10, filter=filter_)
        assert sorted(_paths(matches)) == [str(path.resolve()) for path in paths[2:]]
        assert [match.metadata["year"] in (2022, 2023) for match in matches] == [True, True]
        assert len(writable.search_by_image(paths[0], filter=filter_)) == 2
        assert [len(m) for m in writable.search_many(["xe", "mèo"], filter=filter_)] == [2, 2]
    assert writable.search("xe", filter="year > 3000") == []
    with pytest.raises(DataError, match=r"yaer.*year"):
        writable.search("xe", filter="yaer > 3000")
    with pytest.raises(DataError, match="at character 8"):
        writable.search("xe", filter='year = "a')
    with pytest.raises(DataError, match="2 images, but 1 fields"):
        writable.add(paths[:2], fields=[{}])
    with pytest.raises(DataError, match="2 images, but one fields"):
        writable.add(paths[:2], fields={"album": "Huế"})


def test_an_index_knows_what_is_relevant(writable, photo):
    """Text queries alone: what their scores are worth is what was learned."""
    writable.add([photo()])
    matches = writable.search("xe", 7)
    relevance = matches.relevance
    assert relevance is not None
    assert (np.diff(relevance) <= 0).all()
    assert 0 <= relevance[-1] < relevance[0] <= 1
    least = float(relevance[0])
    kept = writable.search("xe", 7, min_relevance=least)
    assert kept == [match for match in matches if match.relevance >= least]
    assert 0 < len(kept) < 7
    assert writable.search_many(["xe"], 7, min_relevance=least) == [kept]
    assert len(writable.search("xe", 7, hybrid=True, min_relevance=0.0)) == 7
    assert {m.id for m in writable.search("xe", 7, hybrid=True, min_relevance=least)} == {
        match.id for match in kept
    }
    assert writable.search("xe", image=photo(), k=7).relevance is None
    assert writable.search_by_image(photo(), 7).relevance is None


def test_hybrid_fuses_the_words_with_the_vectors(client, made, repository):
    """Against Cormack et al. (2009) as they give it, on all images."""
    with Index(made, repository) as index:
        near = index.search_images(client.embed_texts(["anh so 4"]), 6)[0]
        worded = index.search_words("anh so 4", 6)
    assert worded[0].path.endswith("4.png")
    assert len(worded) > 1
    scores = dict.fromkeys(_paths(near), 0.0)
    for ranking in (near, worded):
        for rank, path in enumerate(_paths(ranking), 1):
            scores[path] += 1 / (60 + rank)
    cosines = {match.path: match.score for match in near}
    for k in (1, 6):
        matches = client.search("anh so 4", k, hybrid=True)
        assert [match.rank for match in matches] == list(range(1, k + 1))
        found = [scores[match.path] for match in matches]
        assert found == pytest.approx(sorted(scores.values(), reverse=True)[:k])
        assert [m.score for m in matches] == pytest.approx([cosines[m.path] for m in matches])
        assert_near(client.search_many(["xe", "anh so 4"], k, hybrid=True)[1], matches)
    (only,) = client.search("anh so 4", hybrid=True, filter='name = "4.png"')
    assert only.path.endswith("4.png")


def test_what_only_the_words_find_has_a_cosine_too(client, made, repository, monkeypatch):
    """Two hits of each ranking are fused; the image of the number is not among the vectors' two."""
    monkeypatch.setattr("vireo_client.ranking._DEPTH", 2)
    with Index(made, repository) as index:
        for number in range(6):
            query = client.embed_texts([f"{number}"])
            near = index.search_images(query, 6)[0]
            if not any(match.path.endswith(f"{number}.png") for match in near[:2]):
                break
    (expected,) = (match for match in near if match.path.endswith(f"{number}.png"))
    assert expected.rank > 2
    matches = client.search(f"{number}", 2, hybrid=True)
    assert _paths(matches) == [near[0].path, expected.path]
    assert matches[1].score == pytest.approx(expected.score, abs=1e-6)


def test_the_stages_of_a_search_are_measured(client, made):
    def counts():
        return {name: times["count"] for name, times in snapshot().items()}

    before = counts()
    client.search("hai con chó", 3)
    client.describe(made.parent / "photos" / "3.png", 3)
    added = {name: count - before.get(name, 0) for name, count in counts().items()}
    assert (added["segment"], added["tokenize"], added["search"]) == (1, 1, 2)
