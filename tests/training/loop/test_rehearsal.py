"""What a machine cannot compute is refused in one line before the first step."""

import pytest
import torch
from torch import nn
from vireo_client.errors import TrainingError
from vireo_training.data.batches import Batch
from vireo_training.loop.inputs import fitting_batch_size
from vireo_training.loop.rehearsal import rehearse
from vireo_training.loop.train import train
from vireo_training.models.dual_encoder import DualEncoder
from vireo_training.models.resolve import resolve
from vireo_training.presets import load_config

TINY = ["image.size=48", "image.resize=48", "text.segmenter=none", "text.width=32"]
LSTM = ["text.kind=lstm", "text.hidden=16", "text.pool=last", "text.shortcut=false"]


def _fp16_lstms_run() -> bool:
    """Whether this machine's processor trains an LSTM in fp16; most do not."""
    try:
        with torch.autocast("cpu", torch.float16):
            nn.LSTM(4, 4)(torch.zeros(2, 2, 4))[0].sum().backward()
    except RuntimeError:
        return False
    return True


def _model(settings):
    config = resolve(load_config("scenes", [*TINY, *settings]))
    torch.manual_seed(0)
    return config, DualEncoder(config, 50, 1, load=True)


def _batch():
    images = torch.randint(0, 256, (4, 3, 48, 48), dtype=torch.uint8)
    ids = torch.randint(2, 50, (4, 7), dtype=torch.int32)
    return Batch([(images, ids)], torch.arange(4), torch.arange(4))


@pytest.mark.skipif(_fp16_lstms_run(), reason="this processor trains an LSTM in fp16")
def test_a_precision_that_a_layer_cannot_do_here_ends_before_the_first_step(scenes, tmp_path):
    config = load_config("scenes", [*TINY, *LSTM, "precision=fp16", "batch_size=8"])
    with pytest.raises(TrainingError) as refused:
        train(config, scenes / "test", tmp_path)
    message = str(refused.value)
    assert "\n" not in message
    assert "kind lstm cannot be trained on cpu with precision=fp16: " in message
    assert message.endswith("give precision=fp32 or precision=bf16")
    assert not (tmp_path / "history.jsonl").exists()


@pytest.mark.parametrize("half", [None, torch.float16, torch.bfloat16])
def test_a_rehearsal_leaves_no_trace(half):
    config, model = _model(["image.head.dropout=0.5"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch, state = _batch(), torch.get_rng_state()
    autocast = torch.autocast("cpu", half or torch.bfloat16, enabled=half is not None)
    rehearse(model.eval(), batch, config, lambda: autocast)
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in model.parameters())


class _Refusing(nn.Module):
    """A backbone whose backward pass cannot run, such as a kernel that a device lacks."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *inputs):
        features = self.inner(*inputs)
        if features.requires_grad:
            features.register_hook(self._refuse)
        return features

    def _refuse(self, gradient):
        raise RuntimeError("no kernel for it. Long advice.\nmore lines")


@pytest.mark.parametrize("error_of", ["precision=bf16", "compile=true"])
def test_a_tower_that_is_unfrozen_later_is_tried_too(error_of):
    config, model = _model([error_of])
    # As of a pretrained tower; one from scratch is never frozen.
    config = config.model_copy(
        update={"text": config.text.model_copy(update={"unfreeze_after": 1})}
    )
    model.text_tower.freeze()
    model.text_tower.backbone = _Refusing(model.text_tower.backbone)
    with pytest.raises(TrainingError, match=rf"{error_of}.*: no kernel for it; give") as refused:
        rehearse(model, _batch(), config, lambda: torch.autocast("cpu", enabled=False))
    assert "\n" not in str(refused.value)
    assert model.text_tower.frozen
    assert not any(p.requires_grad for p in model.text_tower.backbone.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("batch", "chunk", "devices", "fits"),
    [(8, 4, 1, True), (7, 3, 1, True), (3, 2, 1, False), (8, 1, 1, False), (2, "null", 2, False),
     (6, 2, 2, False), (8, 2, 2, True)],
)  # fmt: skip
def test_no_chunk_of_one_image_meets_batch_norm(batch, chunk, devices, fits):
    settings = [f"batch_size={batch}", f"grad_cache={chunk}", "image.head.kind=mlp"]
    config = load_config("scenes", settings)
    if fits:
        assert fitting_batch_size(config, 100, devices) == batch
    else:
        with pytest.raises(TrainingError, match="an mlp head has batch norm"):
            fitting_batch_size(config, 100, devices)
