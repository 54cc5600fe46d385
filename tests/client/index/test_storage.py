"""Files of segments that vanish while they are opened."""

import pytest
from support.small_index import new_image, write_index
from vireo_client.errors import SearchIndexError
from vireo_client.index import Index, storage


def test_a_file_that_is_swept_while_it_is_hashed_is_a_search_index_error(
    tmp_path, small_bundle, monkeypatch
):
    """A reader tries again after this error: a writer may have compacted meanwhile."""
    write_index(tmp_path / "index", small_bundle, new_image("/p/0.jpg", 0))

    def swept(path):
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(storage, "file_sha256", swept)
    with pytest.raises(SearchIndexError, match=r"segments/.* cannot be read"):
        Index(tmp_path / "index", small_bundle)
