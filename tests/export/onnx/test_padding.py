"""What the CPU engine leaves off is nothing that a text tower of ours reads."""

import numpy as np
import pytest
from vireo_client.towers.engine import OnnxEngine


@pytest.mark.parametrize(
    "preset", ["phobert-dinov2", "mini-transformer", "mini-lstm", "efficientnet-bow"]
)
def test_text_towers_answer_the_same_without_padding(exported, preset):
    text = exported(preset, "text")
    (ids,) = text.inputs.values()
    pad_id = int(ids[-1, -1])
    assert (ids[1:, -1] == pad_id).all()
    engine = OnnxEngine(text.path, 2, padding=pad_id)
    expected = text.expected()
    assert np.allclose(engine.run(ids), expected, atol=1e-5)
    for row, alone in zip(ids, expected, strict=True):
        assert np.allclose(engine.run(row[None]), alone, atol=1e-5)
    engine.close()
