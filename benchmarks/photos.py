"""Four recipes on one set of photos, with one pretrained image tower, over several seeds.

    python benchmarks/photos.py PHOTOS --weights FILE

Every recipe has the same image tower, kept as it is (so that its features are computed once);
`vireo-small` also takes the names of the classes that this tower was trained to tell apart. For
each seed all have the same division by picture: 70 % to train on, 15 % to choose the epoch by, 15 %
to measure once. Beside them stand chance and a bag of words: TF-IDF and ridge regression to the
features of the same tower (`vireo_training/bag_of_words.py`), at 224 pixels and at the pixels ours
takes. Intervals are 95 % percentile bootstraps over the test pictures of all seeds, each picture
with all its queries. Writes `benchmarks/results/photos.json` and `photos.md`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from first_light import machine
from rich.console import Console
from vireo_client.bundle import Bundle, file_sha256
from vireo_client.captions import CaptionedImage
from vireo_client.embedder import Embedder
from vireo_client.images import load_pixels
from vireo_client.progress import track
from vireo_client.text.pipeline import TextPath
from vireo_training.config import TrainConfig, load_config
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

RESULTS = Path(__file__).parent / "results"
FIGURES = ("recall_at_1", "recall_at_5", "recall_at_10", "mean_reciprocal_rank", "median_rank")
WAYS = ("text_to_image", "image_to_text")
# Its own rate of 2e-5 moves nothing in the two hundred steps that so few photos give: it is given
# fifty times as much.
RECIPES: dict[str, list[str]] = {
    "vireo-small": [],
    "mini-transformer": [],
    "mini-lstm": [],
    "efficientnet-bow": ["lr_text=1e-3", "lr_head=1e-3"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", help="captioned pictures, as `vireo train` takes them")
    parser.add_argument("--weights", required=True, help="of the image tower")
    parser.add_argument("--tower", default="mobilenetv2_100", help="timm's name of it")
    parser.add_argument("--tower-set", action="append", metavar="KEY=VALUE",
                        default=['image.kwargs={"pad_type": "same"}', "image.mean=[0.5, 0.5, 0.5]",
                                 "image.std=[0.5, 0.5, 0.5]"])  # fmt: skip
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/photos"))
    parser.add_argument("--resume", action="store_true", help="take what --out already holds")
    given = parser.parse_args()
    common = [
        f"image.name={given.tower}", f"image.weights={given.weights}", *given.tower_set,
        "image.freeze=true", "validation_fraction=0.15", "test_fraction=0.15", "feature_views=4",
    ]  # fmt: skip

    measured: dict[str, list[Measured]] = {}
    validation: dict[str, list[float]] = {}
    for seed in range(given.seeds):
        for name, own in RECIPES.items():
            config = load_config(name, [*common, *own, f"seed={seed}"])
            out = given.out / f"{name}-{seed}"
            resume = given.resume and (out / CHECKPOINT_FILE).is_file()
            result = train(
                config, given.photos, out,
                features=given.out / "features", resume=resume, restart=not resume,
            )  # fmt: skip
            if result.interrupted:
                parser.exit(1, "stopped; the same command goes on with --resume\n")
            validation.setdefault(name, []).append(
                sum(result.metrics[way]["mean_reciprocal_rank"] for way in WAYS) / 2
            )
            bundle = Bundle(result.bundle)
            test = select_records(bundle, given.photos, "test")
            with Embedder(bundle, TorchTowers.from_bundle(bundle)) as embedder:
                usable, images, _ = embed_images(embedder, test)
                texts, owner = captions_of(usable)
                as_written = embedder.embed_texts(texts)
                bare = embedder.embed_texts([strip_diacritics(text) for text in texts])
            measured.setdefault(name, []).append(Measured(images, as_written, owner, usable))
            measured.setdefault(f"{name}, no diacritics", []).append(
                Measured(images, bare, owner, usable)
            )
        training = select_records(bundle, given.photos, "train")
        for label, size in (("224", ["image.size=224", "image.resize=256"]),
                            ("288", ["image.size=288", "image.resize=288"])):  # fmt: skip
            words = load_config("photos", [*common, *size])
            text_path = TextPath.from_bundle(bundle)
            for name, found in bag_of_words(words, text_path, training, test).items():
                measured.setdefault(f"bag of words, {label} pixels{name}", []).append(found)

    rows = {name: figures(parts) for name, parts in measured.items()}
    some = measured["vireo-small"]
    rows["chance"] = {
        way: average(
            [chance(part.ranks(way).counts, part.candidates(way)).as_dict() for part in some]
        )
        for way in WAYS
    }
    report = {
        "machine": machine(),
        "photos": [len(part.records) for part in some],
        "seeds": given.seeds,
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
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "photos.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    text = markdown(report)
    (RESULTS / "photos.md").write_text(text, encoding="utf-8")
    Console().print(text, markup=False)


class Measured:
    """One model's vectors of one seed's test pictures and captions."""

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

    def ranks(self, way: str) -> Ranks:
        rank = text_to_image_ranks if way == "text_to_image" else image_to_text_ranks
        return rank(self._images, self._texts, self._owner)

    def candidates(self, way: str) -> int:
        return len(self._images) if way == "text_to_image" else len(self._texts)

    def cluster(self, way: str) -> np.ndarray:
        """The picture of each query, by a name that is one over all seeds."""
        return self._names[self._owner] if way == "text_to_image" else self._names


def bag_of_words(
    config: TrainConfig,
    text_path: TextPath,
    training: Sequence[CaptionedImage],
    test: Sequence[CaptionedImage],
) -> dict[str, Measured]:
    """The baseline on the bare tower's features, of unit length, asked in both ways."""
    config = resolve(config)
    tower, spec = ImageTower(config.image, 1, load=True).eval(), image_spec(config.image)

    @torch.inference_mode()
    def features(records: Sequence[CaptionedImage]) -> np.ndarray:
        found = [
            tower.features(torch.from_numpy(load_pixels(record.path, spec)[None])).numpy()[0]
            for record in track(records, "features for the bag of words")
        ]
        return np.stack([vector / np.linalg.norm(vector) for vector in found])

    texts, owner = captions_of(training)
    model = fit_bag_of_words([text_path.segment(t) for t in texts], owner, features(training))
    asked, picture = captions_of(test)
    images = model.embed_images(features(test))
    return {
        name: Measured(
            images, model.embed_texts([text_path.segment(way(t)) for t in asked]), picture, test
        )
        for name, way in (("", str), (", no diacritics", strip_diacritics))
    }


def figures(parts: Sequence[Measured]) -> dict[str, Any]:
    """Means over seeds, and intervals over all their test pictures."""
    out: dict[str, Any] = {"intervals": {}}
    for way in WAYS:
        ranks = [part.ranks(way) for part in parts]
        pairs = zip(ranks, parts, strict=True)
        out[way] = average([summarise(r, p.candidates(way)).as_dict() for r, p in pairs])
        ends = np.cumsum([len(r.positions) for r in ranks])
        together = Ranks(
            np.concatenate([r.positions for r in ranks]),
            np.concatenate([[0], *(r.starts[1:] + end - len(r.positions)
                                   for r, end in zip(ranks, ends, strict=True))]),
        )  # fmt: skip
        cluster = np.unique(np.concatenate([part.cluster(way) for part in parts]),
                            return_inverse=True)[1]  # fmt: skip
        out["intervals"][way] = bootstrap_intervals(together, cluster)
    return out


def ahead(ours: Sequence[Measured], other: Sequence[Measured]) -> dict[str, Any]:
    """How much higher our reciprocal ranks are than another's, query by query."""
    out = {}
    for way in WAYS:
        pairs = [(a.ranks(way).first, b.ranks(way).first) for a, b in zip(ours, other, strict=True)]
        gain = np.concatenate([1 / a - 1 / b for a, b in pairs])
        cluster = np.unique(np.concatenate([part.cluster(way) for part in ours]),
                            return_inverse=True)[1]  # fmt: skip
        out[way] = {"mean": float(gain.mean()), "interval": paired_interval(gain, cluster)}
    return out


def average(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([part[key] for part in parts])) for key in parts[0]}


def markdown(report: dict[str, Any]) -> str:
    pictures = ", ".join(map(str, report["photos"]))
    machine = f"{report['machine']['cpu']}, {report['machine']['cores']} cores"
    lines = [
        "# Recipes on photos",
        "",
        f"{report['seeds']} seeds ({pictures} test pictures); mean over seeds, in brackets 95 % "
        f"intervals over test pictures. {machine}.",
    ]
    for way, title in zip(WAYS, ("Sentence to picture", "Picture to sentence"), strict=True):
        lines += ["", f"## {title}", ""]
        rows = []
        for name, row in report["test"].items():
            cells = [name]
            for figure in FIGURES:
                digits = 1 if figure == "median_rank" else 3
                cell = f"{row[way][figure]:.{digits}f}"
                if "intervals" in row:
                    low, high = row["intervals"][way][figure]
                    cell += f" ({low:.{digits}f} to {high:.{digits}f})"
                cells.append(cell)
            rows.append(cells)
        head = ["", *(figure.replace("_at_", "@").replace("_", " ") for figure in FIGURES)]
        lines.append(markdown_table(head, rows))
    lines += ["", "## vireo-small beside each, query by query", "",
              "Its reciprocal rank less the other's, mean and 95 % interval over test pictures; "
              "above 0, ours is ahead.", ""]  # fmt: skip
    rows = []
    for name, ways in report["ahead"].items():
        cells = [name]
        for way in WAYS:
            low, high = ways[way]["interval"]
            cells.append(f"{ways[way]['mean']:+.3f} ({low:+.3f} to {high:+.3f})")
        rows.append(cells)
    lines.append(markdown_table(["", "sentence to picture", "picture to sentence"], rows))
    lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
