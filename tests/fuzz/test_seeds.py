"""Examples that fuzzing found, each read as it was found."""

from pathlib import Path

import pytest
from vireo_client.errors import DataError
from vireo_training.readers import read_data

SEEDS = sorted((Path(__file__).parent / "seeds").glob("parquet/*"))


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_a_damaged_parquet_file_is_an_error_of_ours(seed):
    pytest.importorskip("pyarrow", reason="the extra `data` is not installed")
    with pytest.raises(DataError, match="not a readable parquet file"):
        read_data(seed, file_format="parquet")
