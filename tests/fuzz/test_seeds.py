"""Examples that fuzzing found, each read as it was found."""

import pytest
from fuzz.files import SEEDS, SOUND, try_example

FILES = sorted(seed for kind in SOUND for seed in SEEDS.glob(f"{kind}/*"))


@pytest.mark.parametrize("seed", FILES, ids=lambda seed: seed.name)
def test_a_damaged_file_is_read_or_is_an_error_of_ours(seed):
    if seed.suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="the extra `data` is not installed")
    assert try_example(seed.name.partition("-")[2], seed.read_bytes()) is None
