"""Every preset, tiny, goes the whole road on real photos: training, parity gate, ONNX."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.presets import kinds_of_presets, shrink
from vireo_client.bundle import Bundle
from vireo_client.captions import CaptionedImage, read_captions
from vireo_client.search import open_embedder
from vireo_export.export import export
from vireo_training.loop.train import train
from vireo_training.presets import load_config
from vireo_training.sources import open_source

PHOTOS, EPOCHS = 64, 10
# The recipes' rates are for pretrained towers and many steps: 2e-5 shows nothing in a hundred, and
# neither does the temperature of 1.0 that some keep. Small batches are many steps.
LEARN = [
    *(f"lr_{part}=0.002" for part in ("image", "text", "head")),
    "temperature=0.1", "learn_temperature=true", "schedule=constant", "warmup_epochs=1",
    "batch_size=6", "captions_per_picture=3", f"epochs={EPOCHS}", "patience=null",
    "validation_fraction=0.1", "test_fraction=0", "precision=fp32",
]  # fmt: skip


@pytest.fixture(scope="module")
def photos(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the photos, small: decoding a large one ten times over proves nothing more."""
    found = read_captions(shared_data / "photos_vi").records
    folder = tmp_path_factory.mktemp("photos")
    lines = []
    for number, record in enumerate(found[:: len(found) // PHOTOS][:PHOTOS]):
        with Image.open(record.path) as image:
            image.convert("RGB").resize((72, 72)).save(folder / f"{number}.jpg", quality=95)
        lines.append({"image": f"{number}.jpg", "captions": record.captions})
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / "captions.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def records(photos: Path) -> list[CaptionedImage]:
    return read_captions(photos).records[:8]


@pytest.mark.parametrize("preset", kinds_of_presets())
def test_a_preset_learns_from_photos_and_is_served(preset, photos, records, tmp_path):
    config = load_config(preset, [*shrink(preset), *LEARN])
    result = train(config, photos, tmp_path)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "history.jsonl").open()]
    assert len(losses) == EPOCHS
    assert all(map(math.isfinite, losses))
    assert np.mean(losses[-2:]) < np.mean(losses[:2]) - 0.1

    bundle = Bundle(result.bundle)
    export(
        open_source(bundle.folder), tmp_path / "model_repository", records
    )  # through the parity gate
    with open_embedder(Bundle(tmp_path / "model_repository"), None) as embedder:
        caption = records[0].captions[0]
        texts = embedder.embed_texts([caption, f"{caption} " * 100])  # the longer is cut
        images = embedder.embed_images([records[0].path])
    for vectors in (texts, images):
        assert vectors.shape[1] == config.embedding_dim
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
