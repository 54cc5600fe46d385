"""What both clients do: the same verbs, options, answers and errors, in process."""

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from support.bundles import write_repository
from support.clients import CLIENTS, open_client, write_photo_index
from vireo_client.errors import DataError, ImageError, IndexLocked, SearchIndexError, VireoError
from vireo_client.index import Index, IndexWriter
from vireo_client.search import SearchClient
from vireo_client.telemetry import snapshot

PIXELS = np.zeros((9, 7, 3), np.uint8)


@pytest.fixture(scope="module")
def made(repository, tmp_path_factory):
    """An index that no test changes."""
    return write_photo_index(tmp_path_factory.mktemp("made"), repository)


@pytest.fixture
def folder(made, tmp_path):
    """A copy of that index, to be changed, beside its images and its repository."""
    shutil.copytree(made.parent, tmp_path / "made")
    return tmp_path / "made" / made.name


@pytest.fixture(params=CLIENTS)
def client(request, made):
    with open_client(request.param, made) as client:
        yield client


@pytest.fixture(params=CLIENTS)
def writable(request, folder, repository):
    with open_client(request.param, folder, model=repository.folder) as client:
        yield client


def _paths(matches):
    return [match.path for match in matches]


def _near(first, second):
    assert _paths(first) == _paths(second)
    assert np.abs(first.scores - second.scores).max() < 1e-5


def test_a_query_finds_the_nearest_images(client, made, repository):
    with Index(made, repository) as index:
        expected = index.search_images(client.embed_texts(["hai con chó"]), 3)[0]
    matches = client.search("hai con chó", k=3)
    _near(matches, expected)
    _near(client.search("hai con chó", 3), matches)
    assert [match.rank for match in matches] == [1, 2, 3]


def test_several_queries_are_answered_as_each_alone(client):
    texts = ["hai con chó", "một con mèo trên bàn", "xe"]
    together = client.search_many(texts, 4)
    for text, matches in zip(texts, together, strict=True):
        _near(matches, client.search(text, 4))
    assert client.search_many([]) == []


def test_an_image_is_the_same_as_path_bytes_pillow_and_pixels(client, made):
    path = made.parent / "photos" / "3.png"
    with Image.open(path) as file:
        image = file.convert("RGB")
    for source in (path, str(path), path.read_bytes(), image, np.asarray(image)):
        matches = client.search_by_image(source, 2)
        assert matches[0].path == str(path.resolve())
        assert matches[0].score == pytest.approx(1, abs=1e-4)
        _near(client.search(image=source, k=2), matches)


def test_text_and_image_are_the_weighted_sum_of_their_vectors(client, made, repository):
    path = made.parent / "photos" / "3.png"
    text, image = client.embed_texts(["con mèo"])[0], client.embed_images([path])[0]
    with Index(made, repository) as index:
        for weights in ((0.5, 0.5), (3, 1), (0, 1), (1, 0)):
            mixed = weights[0] * text + weights[1] * image
            expected = index.search_images((mixed / np.linalg.norm(mixed))[None], 6)[0]
            _near(client.search("con mèo", 6, image=path, weights=weights), expected)


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
        _near(client.search_many(["xe", "anh so 4"], k, hybrid=True)[1], matches)
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


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_client_that_is_closed_under_its_threads_says_so(made, kind):
    photo = made.parent / "photos" / "3.png"
    started = threading.Barrier(7)
    with open_client(kind, made) as client, ThreadPoolExecutor(6) as threads:

        def ask(number):
            started.wait(30)
            while True:
                try:
                    client.search_by_image(photo) if number % 2 else client.search("xe")
                except VireoError as error:
                    return str(error)

        errors = [threads.submit(ask, number) for number in range(6)]
        started.wait(30)
        client.search("xe")
        client.close()
        assert all("closed" in error.result(60) for error in errors)


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


def test_the_stages_of_a_search_are_measured(client, made):
    def counts():
        return {name: times["count"] for name, times in snapshot().items()}

    before = counts()
    client.search("hai con chó", 3)
    client.describe(made.parent / "photos" / "3.png", 3)
    added = {name: count - before.get(name, 0) for name, count in counts().items()}
    assert (added["segment"], added["tokenize"], added["search"]) == (1, 1, 2)


def test_threads_share_a_client(made):
    """Each of 8 threads asks for all images in an order of its own."""
    photos = sorted((made.parent / "photos").iterdir())
    with SearchClient(made) as client:
        alone = {path: client.search_by_image(path, 6) for path in photos}
        text = client.search("hai con chó", 6)
        barrier = threading.Barrier(8)

        def ask(seed):
            barrier.wait(30)
            for path in np.random.default_rng(seed).permutation(photos):
                _near(client.search_by_image(path, 6), alone[path])
                _near(client.search("hai con chó", 6), text)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(ask, range(8)))


def test_threads_search_while_one_adds_and_removes(folder, repository, photo):
    """An image is found by itself as long as it is there; the six others always."""
    photos = sorted((folder.parent / "photos").iterdir())
    with SearchClient(folder, model=repository.folder) as client:
        stop = threading.Event()
        expected = {path: client.search_by_image(path, 1)[0].path for path in photos}

        def ask():
            count = 0
            while not stop.is_set() or count < 3:
                for path in photos:
                    (match,) = client.search_by_image(path, 1)
                    assert (match.path, round(match.score, 3)) == (expected[path], 1)
                count += 1
            return count

        with ThreadPoolExecutor(3) as threads:
            asking = [threads.submit(ask) for _ in range(3)]
            try:
                for number in range(5):
                    path = photo(f"{number}.png", seed=100 + number)
                    assert client.add([path], captions=["ảnh"]).added == 1
                    assert client.search_by_image(path, 1)[0].path == str(path.resolve())
                    assert client.remove([path]) == 1
                    assert client.search_by_image(path, 1)[0].path != str(path.resolve())
            finally:
                stop.set()
            assert all(done.result(60) >= 3 for done in asking)


def test_threads_that_add_wait_for_each_other(folder, repository, photo):
    with SearchClient(folder, model=repository.folder) as client:
        paths = [photo(f"{number}.png", seed=100 + number) for number in range(4)]
        with ThreadPoolExecutor(4) as threads:
            reports = list(threads.map(lambda path: client.add([path]), paths))
        assert [report.added for report in reports] == [1] * 4
        assert len(client.search("xe", 100)) == 10
