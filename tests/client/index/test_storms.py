"""Kills of a writer at random moments, and readers beside a busy one; see `support.index_storm`."""

from support.index_storm import check, kill_writers, read_beside, write
from vireo_client.index import Index
from vireo_client.index.maintenance import info, verify


def test_kills_at_random_moments_leave_a_whole_index(tmp_path, small_bundle):
    folder = tmp_path / "i"
    write(folder, small_bundle, 1000, 3)
    before = info(folder).generation
    sizes = kill_writers(folder, small_bundle, 10)
    assert min(sizes) > 0
    assert info(folder).generation > before
    # Finishing gives a whole index, too.
    write(folder, small_bundle, 2000, 3)
    assert verify(folder).is_whole
    with Index(folder, small_bundle) as index:
        assert check(index) == 4 * len(index)


def test_four_readers_beside_a_writer_see_each_commit_whole(tmp_path, small_bundle):
    folder = tmp_path / "i"
    write(folder, small_bundle, 1000, 3)
    assert read_beside(folder, small_bundle, 4, 60, lambda: True) > 0
    assert info(folder).generation > 60
    assert verify(folder).is_whole
