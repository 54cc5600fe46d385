"""Compare four recipes on one set of photos, with one pretrained image tower and several seeds.

    python benchmarks/photos.py PHOTOS --weights FILE

Every recipe has the same frozen image tower, so that its features are computed once. `vireo-small`
also takes the names of the classes that this tower was trained to tell apart. For each seed all
have the same division by image: 70 % to train on, 15 % to choose the epoch by, 15 % to measure
once. They are compared with chance and with a bag of words: TF-IDF and ridge regression to the
features of the same tower (`vireo_training/evaluation/bag_of_words.py`), at 224 pixels and at the
size of `vireo-small`. Intervals are 95 % percentile bootstraps over the test images of all seeds,
each image with all its queries. Writes `benchmarks/results/photos.json` and `photos.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from support import machine, option_parser, write_report
from vireo_client.bundle import Bundle, file_sha256
from vireo_client.captions import CaptionedImage
from vireo_client.embedder import Embedder
from vireo_client.images import load_pixels
from vireo_client.progress import track
from vireo_client.text.pipeline import TextPath
from vireo_training.config import TrainConfig
from vireo_training.data.diacritics import strip_diacritics
from vireo_training.evaluation.bag_of_words import fit_bag_of_words
from vireo_training.evaluation.bootstrap import bootstrap_intervals, paired_interval
from vireo_training.evaluation.evaluate import captions_of, embed_images, select_records
from vireo_training.evaluation.metrics import (
    chance,
    image_to_text_ranks,
    summarise,
    text_to_image_ranks,
)
from vireo_training.evaluation.ranking import Ranks
from vireo_training.evaluation.report_tables import markdown_table
from vireo_training.loop.checkpoint import CHECKPOINT_FILE
from vireo_training.loop.train import train
from vireo_training.models.image_tower import ImageTower
from vireo_training.models.resolve import image_spec, resolve
from vireo_training.models.torch_towers import TorchTowers
from vireo_training.presets import load_config

FIGURES = ("recall_at_1", "recall_at_5", "recall_at_10", "mean_reciprocal_rank", "median_rank")
DIRECTIONS = ("text_to_image", "image_to_text")
# The preset's rate of 2e-5 changes nothing in the two hundred steps that so few photos give, so
# `efficientnet-bow` trains at fifty times as much.
RECIPES: dict[str, list[str]] = {
    "vireo-small": [],
    "mini-transformer": [],
    "mini-lstm": [],
    "efficientnet-bow": ["lr_text=1e-3", "lr_head=1e-3"],
}


def main() -> None:
    parser = option_parser(__doc__, "photos.json")
    parser.add_argument("photos", help="captioned images, as `vireo train` takes them")
    parser.add_argument("--weights", required=True, help="weights of the image tower")
    parser.add_argument("--tower", default="mobilenetv2_100", help="the image tower's name in timm")
    parser.add_argument("--tower-set", action="append", metavar="KEY=VALUE",
                        default=['image.kwargs={"pad_type": "same"}', "image.mean=[0.5, 0.5, 0.5]",
                                 "image.std=[0.5, 0.5, 0.5]"])  # fmt: skip
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/photos"))
    parser.add_argument("--resume", action="store_true", help="go on with the runs in --out")
    options = parser.parse_args()
    common = [
        f"image.name={options.tower}", f"image.weights={options.weights}", *options.tower_set,
        "image.freeze=true", "validation_fraction=0.15", "test_fraction=0.15", "feature_views=4",
    ]  # fmt: skip

    measured: dict[str, list[Measured]] = {}
    validation: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        for name, own in RECIPES.items():
            config = load_config(name, [*common, *own, f"seed={seed}"])
            out = options.out / f"{name}-{seed}"
            resume = options.resume and (out / CHECKPOINT_FILE).is_file()
            result = train(
                config, options.photos, out,
                features=options.out / "features", resume=resume, restart=not resume,
            )  # fmt: skip
            if result.interrupted:
                parser.exit(1, "stopped; the same command goes on with --resume\n")
            validation.setdefault(name, []).append(
                float(np.mean([result.metrics[d]["mean_reciprocal_rank"] for d in DIRECTIONS]))
            )
            bundle = Bundle(result.bundle)
            test = select_records(bundle, options.photos, "test")
            with Embedder(bundle, TorchTowers.from_bundle(bundle)) as embedder:
                usable, images, _ = embed_images(embedder, test)
                texts, owner = captions_of(usable)
                as_written = embedder.embed_texts(texts, allow_unknown=True)
                bare = embedder.embed_texts(
                    [strip_diacritics(text) for text in texts], allow_unknown=True
                )
            measured.setdefault(name, []).append(Measured(images, as_written, owner, usable))
            measured.setdefault(f"{name}, no diacritics", []).append(
                Measured(images, bare, owner, usable)
            )
        training = select_records(bundle, options.photos, "train")
        for label, size in (("224", ["image.size=224", "image.resize=256"]),
                            ("288", ["image.size=288", "image.resize=288"])):  # fmt: skip
            words = load_config("photos", [*common, *size])
            text_path = TextPath.from_bundle(bundle)
            for name, baseline in bag_of_words(words, text_path, training, test).items():
                measured.setdefault(f"bag of words, {label} pixels{name}", []).append(baseline)

    rows = {name: figures(parts) for name, parts in measured.items()}
    some = measured["vireo-small"]
    rows["chance"] = {
        direction: average(
            [
                chance(part.ranks(direction).counts, part.candidates(direction)).as_dict()
                for part in some
            ]
        )
        for direction in DIRECTIONS
    }
    report = {
        "machine": machine(),
        "photos": [len(part.records) for part in some],
        "seeds": options.seeds,
        "validation_mean_reciprocal_rank": {
            n: np.round(v, 4).tolist() for n, v in validation.items()
        },
        "test": rows,
    }
    report["ahead"] = {
        name: ahead(measured["vireo-small"], parts)
        for name, parts in measured.items()
        if not name.startswith("vireo-small") and not name.endswith(", no diacritics")
    }
    write_report(report, options.output)
    text = markdown(report)
    options.output.with_suffix(".md").write_text(text, encoding="utf-8")
    Console().print(text, markup=False)


class Measured:
    """One model's embeddings of one seed's test images and captions."""

    def __init__(
        self,
        images: np.ndarray,
        texts: np.ndarray,
        owner: np.ndarray,
        records: Sequence[CaptionedImage],
    ) -> None:
        self._images, self._texts, self._owner = images, texts, owner
        self.records = records
        self._names = np.array([file_sha256(record.path) for record in records])

    def ranks(self, direction: str) -> Ranks:
        rank = text_to_image_ranks if direction == "text_to_image" else image_to_text_ranks
        return rank(self._images, self._texts, self._owner)

    def candidates(self, direction: str) -> int:
        return len(self._images) if direction == "text_to_image" else len(self._texts)

    def cluster(self, direction: str) -> np.ndarray:
        """Return the image of each query, by a name that is the same for all seeds."""
        return self._names[self._owner] if direction == "text_to_image" else self._names


def bag_of_words(
    config: TrainConfig,
    text_path: TextPath,
    training: Sequence[CaptionedImage],
    test: Sequence[CaptionedImage],
) -> dict[str, Measured]:
    """Measure the baseline on the tower's features, with and without diacritics in the queries."""
    config = resolve(config)
    tower, spec = ImageTower(config.image, 1, load=True).eval(), image_spec(config.image)

    @torch.inference_mode()
    def embed(records: Sequence[CaptionedImage]) -> np.ndarray:
        features = [
            tower.features(torch.from_numpy(load_pixels(record.path, spec)[None])).numpy()[0]
            for record in track(records, "features for the bag of words")
        ]
        return np.stack([vector / np.linalg.norm(vector) for vector in features])

    texts, owner = captions_of(training)
    model = fit_bag_of_words([text_path.segment(t) for t in texts], owner, embed(training))
    queries, query_owner = captions_of(test)
    images = model.embed_images(embed(test))
    return {
        name: Measured(
            images,
            model.embed_texts([text_path.segment(change(t)) for t in queries]),
            query_owner,
            test,
        )
        for name, change in (("", str), (", no diacritics", strip_diacritics))
    }


def figures(parts: Sequence[Measured]) -> dict[str, Any]:
    """Return means over seeds, and intervals over all their test images."""
    out: dict[str, Any] = {"intervals": {}}
    for direction in DIRECTIONS:
        ranks = [part.ranks(direction) for part in parts]
        pairs = zip(ranks, parts, strict=True)
        out[direction] = average(
            [summarise(r, p.candidates(direction)).as_dict() for r, p in pairs]
        )
        ends = np.cumsum([len(r.positions) for r in ranks])
        together = Ranks(
            np.concatenate([r.positions for r in ranks]),
            np.concatenate([[0], *(r.starts[1:] + end - len(r.positions)
                                   for r, end in zip(ranks, ends, strict=True))]),
        )  # fmt: skip
        cluster = np.unique(np.concatenate([part.cluster(direction) for part in parts]),
                            return_inverse=True)[1]  # fmt: skip
        out["intervals"][direction] = bootstrap_intervals(together, cluster)
    return out


def ahead(ours: Sequence[Measured], other: Sequence[Measured]) -> dict[str, Any]:
    """Return how much higher our reciprocal ranks are than another's, query by query."""
    out = {}
    for direction in DIRECTIONS:
        pairs = [
            (a.ranks(direction).first, b.ranks(direction).first)
            for a, b in zip(ours, other, strict=True)
        ]
        gain = np.concatenate([1 / a - 1 / b for a, b in pairs])
        cluster = np.unique(np.concatenate([part.cluster(direction) for part in ours]),
                            return_inverse=True)[1]  # fmt: skip
        out[direction] = {"mean": float(gain.mean()), "interval": paired_interval(gain, cluster)}
    return out


def average(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([part[key] for part in parts])) for key in parts[0]}


def markdown(report: dict[str, Any]) -> str:
    photos = ", ".join(map(str, report["photos"]))
    computer = f"{report['machine']['cpu']}, {report['machine']['cores']} cores"
    lines = [
        "# Recipes on photos",
        "",
        f"{report['seeds']} seeds ({photos} test images); mean over seeds, in brackets 95 % "
        f"intervals over test images. {computer}.",
    ]
    for direction, title in zip(DIRECTIONS, ("Text to image", "Image to text"), strict=True):
        lines += ["", f"## {title}", ""]
        rows = []
        for name, row in report["test"].items():
            cells = [name]
            for figure in FIGURES:
                digits = 1 if figure == "median_rank" else 3
                cell = f"{row[direction][figure]:.{digits}f}"
                if "intervals" in row:
                    low, high = row["intervals"][direction][figure]
                    cell += f" ({low:.{digits}f} to {high:.{digits}f})"
                cells.append(cell)
            rows.append(cells)
        head = ["", *(figure.replace("_at_", "@").replace("_", " ") for figure in FIGURES)]
        lines.append(markdown_table(head, rows))
    lines += ["", "## vireo-small beside each, query by query", "",
              "Its reciprocal rank less the other's, mean and 95 % interval over test images; "
              "above 0, ours is ahead.", ""]  # fmt: skip
    rows = []
    for name, directions in report["ahead"].items():
        cells = [name]
        for direction in DIRECTIONS:
            low, high = directions[direction]["interval"]
            cells.append(f"{directions[direction]['mean']:+.3f} ({low:+.3f} to {high:+.3f})")
        rows.append(cells)
    lines.append(markdown_table(["", "text to image", "image to text"], rows))
    lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
