"""Measure false and missed hits at cut-offs of relevance, on images with captions.

    python benchmarks/relevance.py --pair NAME BUNDLE CAPTIONED SEEN [--pair ..] [--others FILE]

A pair is a bundle and captioned images; SEEN is `part` if the bundle was trained on a part of them,
or `none`. Half of the images are indexed, by chance. Three kinds of query are asked:

- captions of indexed images: missed, where the image's own match is below the cut-off;
- captions of the other half: these images are not in the index, though images like them may be.
  A match at or above the cut-off is a false hit;
- captions of other images altogether (`--others`, by default the translated COCO captions of the
  data folder): most are about nothing in the folder, and a match is a false hit, too.

Images that the bundle was trained on and images that it never saw are measured apart. Each row is
the mean of three divisions. The index learns from its captions; once more, without captions, from
the neutral queries. Writes `benchmarks/results/relevance.json`.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from support import data_folder, machine, option_parser, print_heading, print_table, write_report
from vireo_client.bundle import Bundle
from vireo_client.captions import read_captions
from vireo_client.embedder import Embedder
from vireo_client.index import Index, IndexWriter, NewImage
from vireo_client.index.rows import FileStamp
from vireo_training.evaluation.evaluate import captions_of, embed_images, select_records
from vireo_training.models.torch_towers import TorchTowers

CUT_OFFS = (0.5, 0.9, 0.95)
DIVISIONS = 3
OTHERS = 500

Vectors = npt.NDArray[np.float32]


class Embedded(NamedTuple):
    """Images and captions of one pair, embedded."""

    images: Vectors
    captions: Vectors
    owner: npt.NDArray[np.int64]
    """The image of each caption."""
    others: Vectors
    trained: npt.NDArray[np.bool_]
    """Whether the bundle was trained on the image, `[N]`."""


def main() -> None:
    parser = option_parser(__doc__, "relevance.json")
    parser.add_argument("--pair", nargs=4, action="append", required=True,
                        metavar=("NAME", "BUNDLE", "CAPTIONED", "SEEN"))  # fmt: skip
    parser.add_argument("--others", type=Path, help="captions of other images, JSON lines")
    options = parser.parse_args()
    others = read_others(options.others or data_folder() / "captions_vi/coco4k_vi_captions.jsonl")
    rows = []
    for name, folder, captioned, seen_part in options.pair:
        bundle = Bundle(Path(folder))
        with Embedder(bundle, TorchTowers.from_bundle(bundle)) as embedder:
            embedded = embed(bundle, embedder, captioned, others, seen=seen_part == "part")
            # The neutral queries are embedded once.
            remembered = functools.cache(lambda texts, e=embedder: e.embed_texts(list(texts)))
            for seen, label in ((True, "trained on"), (False, "never seen")):
                pool = np.flatnonzero(embedded.trained == seen)
                if len(pool) < 2:
                    continue
                for source in ("captions", "neutral queries"):
                    parts = list(measure(bundle, remembered, embedded, pool, source))
                    rows.append({"model": name, "images": label, "indexed": len(pool) // 2,
                                 "source": source, **averages(parts)})  # fmt: skip
    report: dict[str, Any] = {"machine": machine(), "rows": rows}
    write_report(report, options.output)
    print_heading(report)
    head = ["model", "images", "indexed", "learned from", "missed", "false: same kind",
            "false: others"]  # fmt: skip
    print_table(head, [cells(row) for row in rows], "at 0.5 / 0.9 / 0.95")


def read_others(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["captions"][0] for line in lines[:OTHERS]]


def embed(
    bundle: Bundle, embedder: Embedder, captioned: str, others: list[str], *, seen: bool
) -> Embedded:
    """Embed the images, their captions and the other captions."""
    usable, images, _ = embed_images(embedder, read_captions(Path(captioned)).records)
    texts, owner = captions_of(usable)
    known = {r.path for r in select_records(bundle, captioned, "train")} if seen else set()
    return Embedded(
        images,
        embedder.embed_texts(texts),
        np.array(owner),
        embedder.embed_texts(others),
        np.array([record.path in known for record in usable]),
    )


def measure(
    bundle: Bundle,
    embed_queries: Callable[[tuple[str, ...]], Vectors],
    embedded: Embedded,
    pool: npt.NDArray[np.int64],
    source: str,
) -> Iterator[dict[str, Vectors]]:
    """Yield the relevance of each query's match, of each kind of query, for each division."""
    for seed in range(DIVISIONS):
        shuffled = np.random.default_rng(seed).permutation(pool)
        indexed, left_out = np.split(shuffled, [len(pool) // 2])
        with tempfile.TemporaryDirectory() as folder, IndexWriter(folder, bundle) as writer:
            with_captions = source == "captions"
            writer.add([new_image(embedded, int(n), captions=with_captions) for n in indexed])
            writer.save()
            if source == "neutral queries":
                writer.learn_relevance(lambda texts: embed_queries(tuple(texts)))
            with Index(folder, bundle) as index:
                learned = index.relevance
        if learned is None or learned.source != source:
            raise SystemExit(f"{len(indexed)} images: learned nothing from {source}")
        rows = embedded.images[indexed]
        own = np.isin(embedded.owner, indexed)
        scores = (embedded.captions[own] * embedded.images[embedded.owner[own]]).sum(axis=1)
        outside = embedded.captions[np.isin(embedded.owner, left_out)]
        yield {
            "missed": learned.of(scores),
            "false_same_kind": learned.of((outside @ rows.T).max(axis=1)),
            "false_others": learned.of((embedded.others @ rows.T).max(axis=1)),
        }


def new_image(embedded: Embedded, image: int, *, captions: bool) -> NewImage:
    """Make an image of the index; its path and texts are only names here."""
    rows = np.flatnonzero(embedded.owner == image) if captions else np.empty(0, np.int64)
    texts = tuple(f"caption {row}" for row in rows)
    vectors = embedded.captions[rows] if len(rows) else None
    stamp = FileStamp(1, 1)
    return NewImage(f"/{image}.jpg", f"{image:x}", stamp, embedded.images[image], texts, vectors)


def averages(parts: Sequence[dict[str, Vectors]]) -> dict[str, dict[str, float]]:
    """Return the shares of missed and of false hits by cut-off, over all divisions."""
    shares: dict[str, dict[str, float]] = {}
    for kind in parts[0]:
        shares[kind] = {}
        for cut_off in CUT_OFFS:
            passed = np.mean([(part[kind] >= cut_off).mean() for part in parts])
            share = 1 - passed if kind == "missed" else passed
            shares[kind][str(cut_off)] = round(float(share), 3)
    return shares


def cells(row: dict[str, Any]) -> list[str]:
    shares = [
        " / ".join(f"{share:.2f}" for share in row[kind].values())
        for kind in ("missed", "false_same_kind", "false_others")
    ]
    return [row["model"], row["images"], str(row["indexed"]), row["source"], *shares]


if __name__ == "__main__":
    main()
