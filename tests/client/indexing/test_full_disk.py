"""A disk that fills up while images are indexed, and an index that may not be written."""

import os
import shutil
import signal

import pytest
from support.processes import in_fork
from vireo_client.embedder import Embedder
from vireo_client.errors import SearchIndexError, VireoError
from vireo_client.index import Index, IndexWriter
from vireo_client.index.maintenance import verify
from vireo_client.indexing.embed import embed_images_to
from vireo_client.indexing.pipeline import index_images
from vireo_client.indexing.sources import list_images
from vireo_client.towers.onnx import OnnxTowers

resource = pytest.importorskip("resource")


def _with_largest_file(limit, work):
    """Run `work` in a child that may write no file larger than `limit`; return its error."""

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            work()
        except (VireoError, OSError) as error:
            return [type(error).__name__, str(error)]
        return None

    return in_fork(limited)


def _index(photos, folder, bundle):
    towers = OnnxTowers.from_repository(bundle, max_batch_size=2)
    with Embedder(bundle, towers) as embedder, IndexWriter(folder, bundle) as writer:
        return index_images(writer, embedder, list_images(photos)[0], source=photos)


@pytest.mark.parametrize("limit", [1000, 3000, 5000])  # in the journal's first and later batches
def test_a_full_disk_is_an_error_and_the_old_index_stays(photos, tmp_path, repository, limit):
    first = photos.parent / "first"
    first.mkdir()
    shutil.copy(photos / "a.png", first)
    _index(first, tmp_path / "i", repository)
    kind, message = _with_largest_file(limit, lambda: _index(photos, tmp_path / "i", repository))
    assert kind == SearchIndexError.__name__
    assert message.startswith(str(tmp_path / "i"))
    assert "cannot be" in message
    assert verify(tmp_path / "i").is_whole
    with Index(tmp_path / "i", repository) as index:
        assert len(index) == 1
    report = _index(photos, tmp_path / "i", repository)
    assert report.added + report.unchanged == 6  # what was in the journal is not embedded again
    assert verify(tmp_path / "i").is_whole


def test_a_full_disk_leaves_whole_partitions_of_embeddings(photos, tmp_path, repository):
    def embed():
        with Embedder(repository, OnnxTowers.from_repository(repository)) as embedder:
            embed_images_to(tmp_path / "out", embedder, list_images(photos)[0], partition_rows=4)

    kind, message = _with_largest_file(2000, embed)
    assert kind == "DataError"
    assert message.startswith(f"{tmp_path / 'out'}: cannot be written (")
    assert sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file()) == ["vireo.json"]
    embed()
    assert len(list((tmp_path / "out" / "img_emb").iterdir())) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_index_that_may_not_be_written_is_an_error_that_names_it(photos, tmp_path, repository):
    _index(photos, tmp_path / "i", repository)
    (tmp_path / "i").chmod(0o555)
    for path in (tmp_path / "i").iterdir():
        path.chmod(0o555 if path.is_dir() else 0o444)
    with pytest.raises(SearchIndexError, match=str(tmp_path / "i")):
        _index(photos, tmp_path / "i", repository)
    (tmp_path / "i").chmod(0o755)
