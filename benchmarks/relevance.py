"""Measure false and missed hits at cut-offs of relevance, on images with captions.

    python benchmarks/relevance.py --pair NAME BUNDLE CAPTIONED SEEN [--pair ..] [--others FILE]

A pair is a bundle and captioned images; SEEN is `part` if the bundle was trained on a part of them,
or `none`. Images that the bundle was trained on and images that it never saw are measured apart.

The images, and the queries about other things, are divided into two halves by chance. On the first
half the width of the distribution that neutral queries teach is chosen, and a cut-off; the second
half tells how good they are. In each half, half of the images are indexed, three times by chance,
and four kinds of query are asked:

- captions of indexed images: missed, where the image's own match is below the cut-off;
- captions of the images left out: images like these may well be in the index. A match at or above
  the cut-off is a false hit;
- captions of other images altogether (`--others`, by default the translated COCO captions of the
  data folder): most are about nothing in the folder, and a match is a false hit, too;
- short queries about what few folders hold (`absent_queries.txt`): also false hits.

The index learns from its captions; once more, without captions, from the neutral queries. Writes
`benchmarks/results/relevance.json`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from support import data_folder, machine, option_parser, print_heading, print_table, write_report
from vireo_client.bundle import Bundle
from vireo_client.captions import read_captions
from vireo_client.embedder import Embedder
from vireo_client.index import Index, IndexWriter, NewImage
from vireo_client.index.neutral import embed_usable, neutral_queries
from vireo_client.index.relevance import CAPTIONS, NEUTRAL_QUERIES, Relevance
from vireo_client.index.rows import FileStamp
from vireo_training.evaluation.evaluate import captions_of, embed_images, select_records
from vireo_training.models.torch_towers import TorchTowers

CUT_OFFS = (0.8, 0.9, 0.95)
WIDTHS = (0.8, 0.9, 1.0, 1.1, 1.25)
"""Widths of the distribution that neutral queries teach; the index itself has 1."""
HALVES = ("first", "second")
DIVISIONS = 3
OTHERS = 1_000
KINDS = {
    "missed": "missed",
    "false_same_kind": "false: same kind",
    "false_others": "false: others",
    "false_absent": "false: absent",
}
OTHER_THINGS = ("false_others", "false_absent")

Vectors = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


class Embedded(NamedTuple):
    """Images and captions of one pair, embedded."""

    images: Vectors
    captions: Vectors
    owner: Numbers
    """The image of each caption."""
    others: Vectors
    absent: Vectors
    trained: npt.NDArray[np.bool_]
    """Whether the bundle was trained on the image, `[N]`."""


class Case(NamedTuple):
    """What is measured: a model, the images of one half, and what the index learns from."""

    model: str
    images: str
    indexed: int
    source: str
    half: str


class Asked(NamedTuple):
    """What one index has learned, and the best scores of the queries of each kind."""

    learned: Relevance
    scores: dict[str, Vectors]


def main() -> None:
    parser = option_parser(__doc__, "relevance.json")
    parser.add_argument("--pair", nargs=4, action="append", required=True,
                        metavar=("NAME", "BUNDLE", "CAPTIONED", "SEEN"))  # fmt: skip
    parser.add_argument("--others", type=Path, help="captions of other images, JSON lines")
    options = parser.parse_args()
    others = read_others(options.others or data_folder() / "captions_vi/coco4k_vi_captions.jsonl")
    asked: dict[Case, list[Asked]] = {}
    for name, folder, captioned, seen_part in options.pair:
        bundle = Bundle(Path(folder))
        with Embedder(bundle, TorchTowers.from_bundle(bundle)) as embedder:
            embedded = embed(bundle, embedder, captioned, others, seen=seen_part == "part")
            neutral = embed_usable(embedder.embed_texts, list(neutral_queries()))
        for seen, label in ((True, "trained on"), (False, "never seen")):
            pool = np.random.default_rng(99).permutation(np.flatnonzero(embedded.trained == seen))
            for number, half in enumerate(HALVES if len(pool) else ()):
                images = pool[number::2]
                for source in (CAPTIONS, NEUTRAL_QUERIES):
                    case = Case(name, label, len(images) // 2, source, half)
                    asked[case] = list(ask(bundle, neutral, embedded, images, number, source))
    report: dict[str, Any] = {
        "machine": machine(),
        "rows": [{**case._asdict(), **averages(parts)} for case, parts in asked.items()],
        "widths": [
            {"half": half, "width": width, **summary(asked, half, NEUTRAL_QUERIES, width)}
            for half in HALVES for width in WIDTHS
        ],
        "cut_offs": [
            {"half": half, "source": source, **summary(asked, half, source)}
            for half in HALVES for source in (CAPTIONS, NEUTRAL_QUERIES)
        ],
    }  # fmt: skip
    write_report(report, options.output)
    show(report)


def read_others(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["captions"][0] for line in lines[:OTHERS]]


def embed(
    bundle: Bundle, embedder: Embedder, captioned: str, others: list[str], *, seen: bool
) -> Embedded:
    """Embed the images, their captions and the queries about other things."""
    usable, images, _ = embed_images(embedder, read_captions(Path(captioned)).records)
    texts, owner = captions_of(usable)
    known = {r.path for r in select_records(bundle, captioned, "train")} if seen else set()
    absent = Path(__file__).with_name("absent_queries.txt").read_text(encoding="utf-8")
    return Embedded(
        images,
        embedder.embed_texts(texts),
        np.array(owner),
        embed_usable(embedder.embed_texts, others),
        embed_usable(embedder.embed_texts, absent.splitlines()),
        np.array([record.path in known for record in usable]),
    )


def ask(
    bundle: Bundle, neutral: Vectors, embedded: Embedded, pool: Numbers, half: int, source: str
) -> Iterator[Asked]:
    """Index half of the pool, let it learn, and ask queries of each kind; for each division."""
    for seed in range(DIVISIONS):
        shuffled = np.random.default_rng(seed).permutation(pool)
        indexed, left_out = np.split(shuffled, [len(pool) // 2])
        with tempfile.TemporaryDirectory() as folder, IndexWriter(folder, bundle) as writer:
            with_captions = source == CAPTIONS
            writer.add([new_image(embedded, int(n), captions=with_captions) for n in indexed])
            writer.save()
            if source == NEUTRAL_QUERIES:
                writer.learn_relevance(lambda _: neutral)
            with Index(folder, bundle) as index:
                learned = index.relevance
        if learned is None or learned.source != source:
            raise SystemExit(f"{len(indexed)} images: learned nothing from {source}")
        rows = embedded.images[indexed]
        own = np.isin(embedded.owner, indexed)
        outside = embedded.captions[np.isin(embedded.owner, left_out)]
        yield Asked(
            learned,
            {
                "missed": (embedded.captions[own] * embedded.images[embedded.owner[own]]).sum(1),
                "false_same_kind": (outside @ rows.T).max(axis=1),
                "false_others": (embedded.others[half::2] @ rows.T).max(axis=1),
                "false_absent": (embedded.absent[half::2] @ rows.T).max(axis=1),
            },
        )


def new_image(embedded: Embedded, image: int, *, captions: bool) -> NewImage:
    """Make an image of the index; its path and texts are only names here."""
    rows = np.flatnonzero(embedded.owner == image) if captions else np.empty(0, np.int64)
    texts = tuple(f"caption {row}" for row in rows)
    vectors = embedded.captions[rows] if len(rows) else None
    stamp = FileStamp(1, 1)
    return NewImage(f"/{image}.jpg", f"{image:x}", stamp, embedded.images[image], texts, vectors)


def averages(parts: Sequence[Asked], width: float = 1.0) -> dict[str, dict[str, float]]:
    """Return the shares of missed and of false hits by cut-off, over all divisions."""
    shares: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        shares[kind] = {}
        for cut_off in CUT_OFFS:
            passed = np.mean([(relevance(part, kind, width) >= cut_off).mean() for part in parts])
            share = 1 - passed if kind == "missed" else passed
            shares[kind][str(cut_off)] = round(float(share), 3)
    return shares


def relevance(part: Asked, kind: str, width: float) -> Vectors:
    """Return the relevance that a distribution of another width would give."""
    mean = part.learned.scores.mean()
    return part.learned.of(mean + (part.scores[kind] - mean) / width)


def summary(
    asked: dict[Case, list[Asked]],
    half: str,
    source: str,
    width: float = 1.0,
) -> dict[str, Any]:
    """Return the worst share of false hits on other things, and the mean share of missed ones.

    Missed hits count where the model ranks an image's own caption first for most: another model's
    hits no cut-off can find.
    """
    chosen = [parts for case, parts in asked.items() if case[3:] == (source, half)]
    worst = {str(c): 0.0 for c in CUT_OFFS}
    missed: dict[str, list[float]] = {str(c): [] for c in CUT_OFFS}
    for parts in chosen:
        shares = averages(parts, width)
        for cut_off, found in worst.items():
            worst[cut_off] = max(found, *(shares[k][cut_off] for k in OTHER_THINGS))
            if is_able(parts):
                missed[cut_off].append(shares["missed"][cut_off])
    means = {cut_off: round(float(np.mean(found)), 3) for cut_off, found in missed.items() if found}
    return {"worst_false": worst, "mean_missed": means}


def is_able(parts: Sequence[Asked]) -> bool:
    """Return whether most hits score above most queries without one."""
    return all(
        np.median(part.scores["missed"]) > np.quantile(part.scores["false_same_kind"], 0.9)
        for part in parts
    )


def show(report: dict[str, Any]) -> None:
    """Print the result as tables."""
    print_heading(report)
    at = "at " + " / ".join(map(str, CUT_OFFS))
    head = ["half", "model", "images", "indexed", "learned from", *KINDS.values()]
    rows = [
        [row["half"], row["model"], row["images"], str(row["indexed"]), row["source"],
         *(listed(row[kind]) for kind in KINDS)]
        for row in report["rows"]
    ]  # fmt: skip
    print_table(head, rows, at)
    head = ["half", "learned from, width", "worst false: others, absent", "mean missed"]
    rows = [
        [row["half"], row.get("source") or f"{NEUTRAL_QUERIES}, {row['width']}",
         listed(row["worst_false"]), listed(row["mean_missed"])]
        for row in [*report["widths"], *report["cut_offs"]]
    ]  # fmt: skip
    print_table(head, rows, at)


def listed(shares: dict[str, float]) -> str:
    return " / ".join(f"{share:.2f}" for share in shares.values())


if __name__ == "__main__":
    main()
