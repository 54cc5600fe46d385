"""One small pass before the first step: what cannot run here is said at once, and in a line."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from vireo_client.errors import TrainingError

from ..config import TrainConfig
from ..data.batches import Batch
from ..models.dual_encoder import DualEncoder


def rehearse(
    model: DualEncoder,
    batch: Batch,
    config: TrainConfig,
    autocast: Callable[[], AbstractContextManager[object]],
) -> None:
    """Run the first chunk of a batch forward and backward, and leave no trace of it.

    Which device computes which layer in which precision depends on the processor and on the
    libraries that torch was built with; no list of combinations would stay true. Towers that are
    unfrozen later train here already: their backward pass must not fail after hours.

    Args:
        model: on its device; weights, batch statistics and random generators stay as they are.
        batch: on the same device. Few images are enough.
        config: names the settings that an error advises on.
        autocast: returns the context of a forward pass.

    Raises:
        TrainingError: the device cannot compute it.
    """
    device = next(model.parameters()).device
    before = [buffer.clone() for buffer in model.buffers()]
    training = model.training
    later = [
        tower
        for tower, settings in ((model.image_tower, config.image), (model.text_tower, config.text))
        if tower.frozen and settings.unfreeze_after is not None
    ]
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            for tower in later:
                tower.unfreeze()
            model.train()
            images, *texts = batch.chunks[0]
            # Where all texts have one length, recurrent layers run other code than where some are
            # padded. A run meets such a batch by chance, perhaps in its second epoch.
            alike = texts[-1][-1:].repeat(2, 1)
            with autocast():
                image, text = model(images, *texts)
                same = model.text_tower(alike)
            (image.sum() + text.sum() + same.sum()).backward()
    # Layers refuse what they cannot do with either, memory and compilers with the first.
    except (RuntimeError, ValueError) as error:
        raise TrainingError(_refusal(error, config, device)) from error
    finally:
        model.zero_grad(set_to_none=True)
        for tower in later:
            tower.freeze()
        model.train(training)
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), before, strict=True):
                buffer.copy_(value)


def _refusal(error: Exception, config: TrainConfig, device: torch.device) -> str:
    """Return one line: what cannot run where, why, and which settings to change."""
    settings, advice = [], []
    if config.precision != "fp32":
        settings.append(f"precision={config.precision}")
        others = ["bf16"] if config.precision == "fp16" else []
        advice.append(" or ".join(f"precision={each}" for each in ["fp32", *others]))
    if config.compile:
        settings.append("compile=true")
        advice.append("compile=false")
    for name, tower in (("image", config.image), ("text", config.text)):
        if tower.checkpointing:
            settings.append(f"{name}.checkpointing=true")
            advice.append(f"{name}.checkpointing=false")
    if isinstance(error, torch.OutOfMemoryError):
        advice = ["a smaller grad_cache", "a smaller batch_size"]
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    reason = reason.split(". ")[0].rstrip(".")
    model = f"{config.image.name} with a text tower of kind {config.text.kind}"
    with_settings = f" with {', '.join(settings)}" if settings else ""
    give = f"; give {', or '.join(advice)}" if advice else "; choose other towers or sizes"
    return f"{model} cannot be trained on {device.type}{with_settings}: {reason}{give}"
