import os

import pytest
from vireo_client.cores import usable_cores

MINE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("content", "cores"),
    [
        ("max 100000\n", MINE),
        ("100000 100000\n", 1),
        ("1 100000\n", 1),
        ("150000 100000\n", min(2, MINE)),
        ("99900000 100000\n", MINE),
        ("nonsense", MINE),
    ],
)
def test_a_containers_quota_counts(tmp_path, content, cores):
    (tmp_path / "cpu.max").write_text(content)
    assert usable_cores(tmp_path / "cpu.max") == cores


def test_without_control_groups_the_affinity_counts(tmp_path):
    assert usable_cores(tmp_path / "gone") == MINE
