"""Shared memory of servers: names of their own, and nothing left behind."""

import pytest
from vireo_client.errors import ServerError
from vireo_serving.server.shared_memory import SharedMemory
from vireo_serving.server.watch import GROWN_BYTES, MemoryWatch


def test_regions_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path):
    living = SharedMemory(tmp_path)
    region = tmp_path / f"{living.prefix}region"
    region.write_bytes(b"x" * 10_000)
    (tmp_path / "vireo_dead1234").mkdir()
    (tmp_path / "vireo_dead1234_region").touch()
    foreign = tmp_path / "other_region"
    foreign.touch()
    second = SharedMemory(tmp_path)
    assert second.prefix != living.prefix
    assert sorted(p for p in tmp_path.iterdir() if p.is_file()) == sorted([region, foreign])
    assert living.size() >= 10_000
    assert second.size() == 0
    second.close()
    living.clear()
    assert living.size() == 0
    living.close()
    assert list(tmp_path.iterdir()) == [foreign]


def test_a_machine_without_shared_memory_is_named(tmp_path):
    with pytest.raises(ServerError, match="Python backend needs shared memory there"):
        SharedMemory(tmp_path / "absent")


def test_memory_is_given_back_when_it_has_grown_and_not_all_the_time():
    memory = MemoryWatch(100)
    assert not memory.is_due(100 + GROWN_BYTES - 1, now=0.0)
    assert memory.is_due(100 + GROWN_BYTES, now=0.0)
    memory.given_back(200)
    assert not memory.is_due(200 + GROWN_BYTES, now=599.0)
    assert not memory.is_due(199 + GROWN_BYTES, now=600.0)
    assert memory.is_due(200 + GROWN_BYTES, now=600.0)
