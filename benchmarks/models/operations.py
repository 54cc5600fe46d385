"""The work of a tower: its operations for one row, and the weights that each run reads."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Work:
    """What one row costs."""

    operations: float
    """Multiplications and additions of matrix products, convolutions and attention."""
    weights: int
    """The number of weights, without tables of which a row reads a few lines."""


def work_of(bundle: Path, tower: str, length: int = 0) -> Work:
    """Count the work of a bundle's tower, once; the counts are kept beside the bundle.

    Args:
        bundle: the bundle's folder.
        tower: `text` or `image`.
        length: ids of a text.
    """
    file = bundle.parent / f"work-{tower}-{length}.json"
    if not file.is_file():
        file.write_text(json.dumps(asdict(_count(bundle, tower, length))))
    return Work(**json.loads(file.read_text()))


def _count(folder: Path, tower: str, length: int) -> Work:
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from vireo_client.bundle import Bundle
    from vireo_training.models.bundle_writer import load_model

    bundle = Bundle(folder)
    model = load_model(bundle)
    size = bundle.config.image.size
    module, row = (
        (model.text_tower, torch.full((1, length), 5, dtype=torch.int32))
        if tower == "text"
        else (model.image_tower, torch.zeros((1, 3, size, size), dtype=torch.uint8))
    )
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module(row)
    tables = {id(part.weight) for part in module.modules() if isinstance(part, torch.nn.Embedding)}
    weights = sum(p.numel() for p in module.parameters() if id(p) not in tables)
    return Work(float(counter.get_total_flops()), weights)
