"""Every preset builds and learns at its own size, and a tiny one of its kind exports exactly."""

import gc
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from support.presets import from_scratch, kinds_of_presets, shrink
from vireo_client.errors import TrainingError
from vireo_export.onnx.export import export_towers
from vireo_training.loop.optimiser import parameter_groups
from vireo_training.models.dual_encoder import DualEncoder, model_settings
from vireo_training.models.resolve import resolve
from vireo_training.presets import load_config, preset_about, preset_names

PAD = 1
DOCS = Path(__file__).parents[2] / "docs" / "training.md"


def random_ids(generator, rows, length, vocab_size, pad_id=PAD):
    """INT32 `[rows, length]`: the first text of two tokens, the others of any length."""
    ids = np.full((rows, length), pad_id, dtype=np.int32)
    for row in range(rows):
        tokens = int(generator.integers(2, length + 1)) if row else 2
        ids[row, :tokens] = generator.integers(pad_id + 1, vocab_size, tokens)
    return ids


@pytest.fixture(scope="module", autouse=True)
def _free_memory():
    yield
    gc.collect()


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_builds_at_its_size_and_learns(preset):
    torch.manual_seed(0)
    config = resolve(load_config(preset, from_scratch(preset)))
    vocab_size = config.text.architecture.get("vocab_size", config.text.vocab_size)
    model = DualEncoder(config, vocab_size, PAD, load=True).train()
    groups = parameter_groups(model, config)
    # SGD keeps no state: the largest preset takes 4 GB with it, 8 GB with AdamW.
    optimiser = torch.optim.SGD(groups, foreach=False)
    size = config.image.size
    pixels = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    ids = torch.from_numpy(random_ids(np.random.default_rng(0), 2, 8, vocab_size))

    image, text = model(pixels, ids)
    assert image.shape == text.shape == (2, config.embedding_dim)
    F.cross_entropy(model.logit_scale * text @ image.T, torch.arange(2)).backward()
    learning = [p for group in groups for p in group["params"]]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in learning)
    trainable = {id(p) for p in model.parameters() if p.requires_grad}
    assert {id(p) for p in learning} == trainable
    before = [p.detach().view(-1)[:1].clone() for p in model.image_tower.layers()[0]]
    optimiser.step()
    after = [p.detach().view(-1)[:1] for p in model.image_tower.layers()[0]]
    assert all(torch.isfinite(p).all() for p in after)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("preset", kinds_of_presets())
def test_a_small_one_of_every_preset_exports_exactly(preset, tmp_path):
    torch.manual_seed(0)
    config = resolve(load_config(preset, shrink(preset)))
    model = DualEncoder(config, 400, PAD, load=True)
    generator = np.random.default_rng(0)
    size, buckets = config.image.size, config.text.buckets
    # A step of training first: batch statistics and biases that are still 0 would hide much.
    model.train()
    for _ in range(2):
        pixels = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8)
        model(pixels, torch.from_numpy(random_ids(generator, 4, buckets[0], 400)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    model.eval()
    files = export_towers(
        model.text_tower,
        model.image_tower,
        tmp_path,
        size=config.image.size,
        buckets=buckets,
        pad_id=PAD,
    )

    def answers(name, inputs, tower):
        session = onnxruntime.InferenceSession(str(files[name]))
        (answer,) = session.run(None, {session.get_inputs()[0].name: inputs})
        with torch.inference_mode():
            expected = tower(torch.from_numpy(inputs)).numpy()
        assert answer.shape == (len(inputs), config.embedding_dim)
        assert np.isfinite(answer).all()
        assert np.isfinite(expected).all()
        return answer, expected

    def cosines(*arguments):
        answer, expected = answers(*arguments)
        lengths = np.linalg.norm(answer, axis=1) * np.linalg.norm(expected, axis=1)
        assert lengths == pytest.approx(1, abs=1e-5)
        return (answer * expected).sum(axis=1)

    for batch in (1, 3, 5):
        for length in (2, *buckets):
            ids = random_ids(generator, batch, length, 400)
            assert cosines("text_encoder", ids, model.text_tower).min() >= 0.9999
        pixels = generator.integers(0, 256, (batch, 3, size, size), dtype=np.uint8)
        assert cosines("image_encoder", pixels, model.image_tower).min() >= 0.9999
    padding = np.full((2, buckets[0]), PAD, dtype=np.int32)
    answers("text_encoder", padding, model.text_tower)
    for file in files.values():  # FP16 holds every constant
        weights = map(onnx.numpy_helper.to_array, onnx.load(file).graph.initializer)
        assert all(np.abs(w).max(initial=0) < 65504 for w in weights if w.dtype == np.float32)


@pytest.mark.parametrize("preset", preset_names())
def test_a_bundles_settings_rebuild_the_module(preset):
    config = resolve(load_config(preset, [*shrink(preset), "loss=siglip"]))
    torch.manual_seed(0)
    model = DualEncoder(config, 400, PAD, load=True)
    settings = type(config).model_validate(model_settings(config))
    again = DualEncoder(settings, 400, PAD, load=False)
    again.load_state_dict(model.state_dict())
    assert resolve(settings) == settings  # it says everything itself
    assert (again.logit_scale, again.logit_bias) == (model.logit_scale, model.logit_bias)


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_introduces_itself_and_is_documented(preset):
    assert preset_about(preset)
    assert f"| `{preset}` |" in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "preset", [name for name in preset_names() if name not in ("photos", "scenes")]
)
def test_without_a_network_a_preset_names_the_missing_weights(preset, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    config = load_config(preset)
    with pytest.raises(TrainingError, match=r"cannot be had.*VIREO_OFFLINE.*weights=null"):
        DualEncoder(resolve(config), 64001, PAD, load=True)
