import pytest
import torch
from vireo_training.loop.step import _half_precision
from vireo_training.presets import load_config


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "expected"),
    [(True, False, torch.bfloat16), (False, True, torch.bfloat16), (False, False, None)],
)
def test_automatic_precision_is_what_the_processor_multiplies(
    amx, avx512_bf16, expected, monkeypatch
):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    assert _half_precision(load_config("scenes"), "cpu") is expected
    assert _half_precision(load_config("scenes", ["precision=fp32"]), "cpu") is None
