"""Measure how the embeddings of photos are spread, for `spread.py`.

    python benchmarks/fit_spread.py

Takes the photos and the pretrained MobileNetV2 from the data folder, and writes
`benchmarks/results/spread.json`.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from spread import DIM, TOPICS, Spread
from support import data_folder, option_parser, write_report

CROPS = 8


def fit(crops: npt.NDArray[np.float64]) -> Spread:
    """Measure the parts on embeddings `[photos, crops, D]`, D being 512 or more."""
    from sklearn.cluster import KMeans

    crops = crops / np.linalg.norm(crops, axis=2, keepdims=True)
    photos = crops.mean(axis=1)
    mean = photos.mean(axis=0)
    views = (crops - photos[:, None]).reshape(-1, crops.shape[2])
    between = photos - mean
    cells = KMeans(TOPICS, n_init=3, random_state=0).fit(between)
    topics = cells.cluster_centers_[cells.labels_]
    scale = (crops.shape[1] / (crops.shape[1] - 1)) ** 0.5
    # The main directions of all crops around the common mean.
    axes = np.linalg.svd((crops - mean).reshape(-1, crops.shape[2]), full_matrices=False)[2][:DIM]
    parts = [mean @ axes.T]
    parts += [np.sqrt(np.mean((x @ axes.T) ** 2, axis=0)) for x in (topics, between - topics)]
    parts += [np.sqrt(np.mean((views @ axes.T) ** 2, axis=0)) * scale]
    return Spread(*(part.astype(np.float32) for part in parts))


def embed_crops(photos: list[Path], tower: Path) -> npt.NDArray[np.float64]:
    """Embed `CROPS` random crops of each photo with the pretrained MobileNetV2: `[N, 8, 1280]`."""
    import timm
    import torch
    from PIL import Image
    from safetensors.torch import load_file
    from torchvision import transforms

    torch.manual_seed(0)
    model = timm.create_model("mobilenetv2_100", num_classes=1001, pad_type="same")
    model.load_state_dict(load_file(tower / "model.safetensors"))
    model.reset_classifier(0)
    model.eval()
    crop = transforms.Compose(
        [
            transforms.RandomResizedCrop(160, scale=(0.35, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )
    embeddings = []
    with torch.inference_mode():
        for path in photos:
            with Image.open(path) as file:
                image = file.convert("RGB")
            embeddings.append(model(torch.stack([crop(image) for _ in range(CROPS)])).numpy())
    return np.stack(embeddings).astype(np.float64)


def main() -> None:
    args = option_parser(__doc__, "spread.json").parse_args()
    data = data_folder()
    photos = sorted((data / "photos_vi" / "images").rglob("*.jpg"))
    started = time.perf_counter()
    parts = fit(embed_crops(photos, data / "weights" / "mobilenetv2_100"))
    report = {
        "date": time.strftime("%Y-%m-%d"),
        "tower": "mobilenetv2_100, pretrained on ImageNet",
        "photos": len(photos),
        "crops_per_photo": CROPS,
        "variance": {
            name: round(float((part.astype(np.float64) ** 2).sum()), 4)
            for name, part in parts._asdict().items()
        },
        **{
            name: [float(f"{value:.4g}") for value in part]
            for name, part in parts._asdict().items()
        },
    }
    write_report(report, args.output)
    print(f"{len(photos)} photos, {time.perf_counter() - started:.0f} s: {report['variance']}")


if __name__ == "__main__":
    main()
