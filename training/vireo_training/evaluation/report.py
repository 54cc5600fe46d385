"""The full evaluation of a bundle, for `vireo evaluate --out`: metrics, intervals, baselines."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from vireo_client import __version__
from vireo_client.bundle import Bundle, file_sha256
from vireo_client.captions import CaptionedImage, log_skips
from vireo_client.embedder import Embedder
from vireo_client.errors import DataError
from vireo_client.progress import track

from ..data.diacritics import strip_diacritics
from ..data.same_text import Texts
from .bag_of_words import fit_bag_of_words
from .bootstrap import bootstrap_intervals
from .evaluate import (
    CorpusEmbeddings,
    captions_of,
    default_split,
    embed_corpus,
    embed_images,
    select_records,
)
from .metrics import (
    CUTOFFS,
    chance,
    chance_curve,
    image_to_text_ranks,
    recall_curve,
    summarise,
    text_to_image_ranks,
)
from .ranking import Ranks

REPORT_FILE = "report.json"
REPORT_KIND = "vireo-evaluation"
REPORT_VERSION = 1
MARKDOWN_FILE = "report.md"
CURVE_LENGTH = 100


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """The settings of cut-offs and intervals; the report holds them."""

    confidence: float = 0.95
    resamples: int = 1000
    seed: int = 0
    at: tuple[int, ...] = CUTOFFS
    """Each k to show; `CUTOFFS`, by which reports are compared, are measured in any case."""

    @property
    def cutoffs(self) -> tuple[int, ...]:
        """Each k to measure at."""
        return tuple(sorted({*CUTOFFS, *self.at}))


@dataclass(frozen=True)
class Evaluation:
    """A report, and the embeddings and ranks that its plots are drawn from."""

    report: dict[str, Any]
    corpus: CorpusEmbeddings
    text_to_image: Ranks


@dataclass(frozen=True)
class _Measured:
    figures: dict[str, Any]
    curves: dict[str, list[float]]
    ranks: dict[str, Ranks]


def _measure(
    images: npt.NDArray[np.float32],
    texts: npt.NDArray[np.float32],
    owner: npt.NDArray[np.int64],
    same: Texts,
    settings: ReportSettings,
) -> _Measured:
    """Return both directions of one model, with intervals."""
    measured = _Measured({"intervals": {}}, {}, {})
    described = np.unique(owner)
    for way, ranks, candidates, cluster in (
        ("text_to_image", text_to_image_ranks(images, texts, owner, same), len(images), owner),
        ("image_to_text", image_to_text_ranks(images, texts, owner, same), len(texts), described),
    ):
        measured.figures[way] = summarise(ranks, candidates, settings.cutoffs).as_dict()
        measured.figures["intervals"][way] = bootstrap_intervals(
            ranks, cluster, confidence=settings.confidence, resamples=settings.resamples,
            seed=settings.seed, cutoffs=settings.cutoffs,
        )  # fmt: skip
        measured.curves[way] = recall_curve(ranks, min(CURVE_LENGTH, candidates)).tolist()
        measured.ranks[way] = ranks
    return measured


def evaluate_in_full(
    embedder: Embedder,
    records: Sequence[CaptionedImage],
    *,
    training: Sequence[CaptionedImage] | None = None,
    settings: ReportSettings = ReportSettings(),
) -> Evaluation:
    """Measure a model with accents and without, beside chance and a bag of words.

    Args:
        embedder: the model.
        records: the images and captions to measure on.
        training: the records that the bag-of-words baseline learns from; None leaves the baseline
            out. Images that are in `records` too are left out of them.
        settings: the settings of the intervals.

    Raises:
        DataError: not one image can be read, or a setting is out of range.
    """
    corpus = embed_corpus(embedder, records)
    log_skips(corpus.skipped)
    captions, owner = captions_of(corpus.records)
    model = _measure(corpus.images, corpus.texts, owner, corpus.same, settings)
    bare_texts = embedder.embed_texts(
        [strip_diacritics(caption) for caption in captions], allow_unknown=True
    )
    bare = _measure(corpus.images, bare_texts, owner, corpus.same, settings)
    words, note = _bag_of_words(embedder, corpus, training, settings)
    by_chance, curves = {}, {"model": model.curves, "without_diacritics": bare.curves}
    curves["chance"] = {}
    for way, ranks in model.ranks.items():
        candidates = int(model.figures[way]["candidates"])
        by_chance[f"chance_{way}"] = chance(ranks.counts, candidates, settings.cutoffs).as_dict()
        length = min(CURVE_LENGTH, candidates)
        curves["chance"][way] = chance_curve(ranks.counts, candidates)[:length].tolist()
    if words is not None:
        curves["bag_of_words"] = words.curves
    report = {
        "kind": REPORT_KIND,
        "report_version": REPORT_VERSION,
        "vireo": __version__,
        "bundle_id": embedder.bundle.bundle_id,
        "towers": embedder.towers.name,
        "pictures": len(corpus.images),
        "captions": len(captions),
        # Those with several right images. Reports of older versions counted one image only.
        "shared_captions": int((model.ranks["text_to_image"].counts > 1).sum()),
        "data_id": data_id(corpus.records),
        "skipped": [str(skip) for skip in corpus.skipped],
        "confidence": settings.confidence,
        "resamples": settings.resamples,
        "seed": settings.seed,
        "at": settings.at,
        **model.figures,
        **by_chance,
        "without_diacritics": bare.figures,
        "bag_of_words": None if words is None else words.figures,
        "bag_of_words_note": note,
        "recall_curves": curves,
    }
    return Evaluation(report, corpus, model.ranks["text_to_image"])


def data_id(records: Sequence[CaptionedImage]) -> str:
    """Hash images and captions to 16 hexadecimal digits; names and order do not matter."""
    parts = sorted(
        json.dumps([file_sha256(record.path), sorted(record.captions)], ensure_ascii=False)
        for record in records
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _bag_of_words(
    embedder: Embedder,
    corpus: CorpusEmbeddings,
    training: Sequence[CaptionedImage] | None,
    settings: ReportSettings,
) -> tuple[_Measured | None, str]:
    if training is None:
        return None, "left out: there are no training captions"
    measured = {file_sha256(record.path) for record in corpus.records}
    unseen = [record for record in training if file_sha256(record.path) not in measured]
    if not unseen:
        return None, "left out: every training image is among those measured"
    learnt, images, skipped = embed_images(embedder, unseen, "embed training images")
    log_skips(skipped)
    captions, owner = captions_of(learnt)
    segment = embedder.text_path.segment
    texts = [segment(caption) for caption in track(captions, "segment training captions")]
    model = fit_bag_of_words(texts, owner, images, seed=settings.seed)
    measured_captions, measured_owner = captions_of(corpus.records)
    vectors = model.embed_texts([segment(caption) for caption in measured_captions])
    note = (
        f"TF-IDF of {len(model.columns)} words and ridge regression (penalty {model.penalty:g}), "
        f"learnt from {len(captions)} captions of {len(learnt)} training images"
    )
    found = model.embed_images(corpus.images)
    return _measure(found, vectors, measured_owner, corpus.same, settings), note


def baseline_records(
    bundle: Bundle,
    data: str | Path,
    split: str,
    training_data: str | None,
    *,
    columns: Sequence[str] = (),
    file_format: str | None = None,
) -> list[CaptionedImage] | None:
    """Return the records that the bag-of-words baseline learns from: the training split.

    Args:
        bundle: records how its data was divided; if it does not, all of `training_data` is used.
        data, split: the data that is measured.
        training_data: the model's training data, if it is not in `data`.
        columns, file_format: as `read_data` takes them.

    Returns:
        None where there is nothing to learn from: `split` is "all" or "train", and no
        `training_data` is given.

    Raises:
        DataError: `training_data` cannot be read, or none of it is in the training split.
    """
    if training_data is not None:
        part = default_split(
            bundle, "train", training_data, columns=columns, file_format=file_format
        )
        return select_records(bundle, training_data, part, columns=columns, file_format=file_format)
    if split not in ("test", "validation"):
        return None
    return select_records(bundle, data, "train", columns=columns, file_format=file_format)


def check_out(out: Path) -> None:
    """Refuse a folder whose files a report would overwrite, before hours are spent.

    Raises:
        DataError: `out` is a file, or holds a report of another kind.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is a file; --out names a folder")
    path = out / REPORT_FILE
    if path.exists() and not is_report(path):
        raise DataError(f"{path}: is no report of `vireo evaluate`; choose another folder")


def is_report(path: Path) -> bool:
    """Return whether `vireo evaluate` wrote this file, in any version."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(raw, dict) and raw.get("kind") == REPORT_KIND


def write_files(out: Path, files: dict[str, Callable[[Path], None] | None]) -> None:
    """Write all files, then move them to `out` one by one; a failure moves none.

    Args:
        out: the folder; other files in it stay.
        files: what writes each name; None removes what an earlier report left there.

    Raises:
        DataError: the folder cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".report-", dir=out) as draft:
            for name, write in files.items():
                if write is not None:
                    write(Path(draft) / name)
            for name, write in files.items():
                if write is None:
                    (out / name).unlink(missing_ok=True)
                else:
                    os.replace(Path(draft) / name, out / name)
    except OSError as error:
        raise DataError(f"{out}: the report cannot be written ({error})") from error
