"""What a page asks of an index besides matches: what to filter by, files and captions by id."""

import pytest
from support.small_index import new_image, write_index
from vireo_client.index import Index
from vireo_client.index.facets import FREQUENT


def _image(number, **fields):
    return new_image(f"/photos/{number}.jpg", number, captions=2)._replace(fields=fields)


@pytest.fixture
def index(small_bundle, tmp_path):
    images = [
        _image(1, folder="2024/a/", make="Canon", model="R5", taken="2024-05-17", shop="Chợ"),
        _image(2, folder="2024/b/", make="Canon", model="R5", taken="2023-01-02", shop="Chợ"),
        _image(3, folder="2023/", make="Apple", shop="Quán"),
        _image(4, folder="", price=3),
    ]
    write_index(tmp_path / "i", small_bundle, *images)
    with Index(tmp_path / "i", small_bundle) as opened:
        yield opened


def test_facets_count_what_images_can_be_told_apart_by(index):
    facets = index.facets()
    columns = {column.name: column for column in facets.columns}
    assert columns["shop"].values == {"Chợ": 2, "Quán": 1}
    assert columns["price"].values is None
    assert columns["name"].values is None
    assert columns["width"].type == "integer"
    assert facets.cameras == {"Canon R5": 2, "Apple": 1}
    assert facets.folders == {"2023/": 1, "2024/": 2}
    assert (facets.first_date, facets.last_date) == ("2023-01-02T00:00:00", "2024-05-17T00:00:00")


def test_only_the_frequent_values_are_told(small_bundle, tmp_path):
    images = [_image(number, shop=f"s{number % 70}") for number in range(140)]
    write_index(tmp_path / "i", small_bundle, *images, _image(999, shop="s69"))
    with Index(tmp_path / "i", small_bundle) as opened:
        (shop,) = [c for c in opened.facets().columns if c.name == "shop"]
    assert len(shop.values) == FREQUENT
    assert next(iter(shop.values.items())) == ("s69", 3)


def test_an_empty_index_has_facets_without_values(small_bundle, tmp_path):
    write_index(tmp_path / "i", small_bundle)
    with Index(tmp_path / "i", small_bundle) as opened:
        facets = opened.facets()
    assert facets.cameras == facets.folders == {}
    assert facets.first_date is None


def test_files_and_captions_are_found_by_id(index):
    found = index.files([1, 3, 99])
    assert {id_: row.path for id_, row in found.items()} == {1: "/photos/1.jpg", 3: "/photos/3.jpg"}
    assert found[1].sha256 == "0" * 64
    assert found[1].stamp.bytes == 1
    captions = index.captions_of([2, 99])
    assert captions == {2: ["/photos/2.jpg câu 0", "/photos/2.jpg câu 1"]}


def test_the_generation_is_that_of_the_answers(index):
    assert index.generation == 1


def test_folders_elsewhere_are_told_whole(small_bundle, tmp_path):
    images = [_image(1, folder="a/b/"), _image(2, folder="a/"), _image(3, folder="/elsewhere/c/")]
    write_index(tmp_path / "i", small_bundle, *images)
    with Index(tmp_path / "i", small_bundle) as opened:
        assert opened.facets().folders == {"/elsewhere/c/": 1, "a/": 2}
