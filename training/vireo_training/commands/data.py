"""`vireo data`: checks of a data set before training on it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from vireo_client.printing import json_line, say

from .options import ColumnsOption, FormatOption

if TYPE_CHECKING:
    from ..data.data_check import DataReport, Overlap, Part, SplitReport, Spread
    from ..readers import Mixture

app = typer.Typer(no_args_is_help=True)

_SHOWN = 5
_SPLITS = ("train", "validation", "test")

# The options and their help stand here, so that the function below reads as a list.
Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE",
        help="Files or folders of captions, read as one set; FILE@FOLDER names the folder of "
        "a file's images.",
    ),
]
Train = Annotated[
    list[str] | None, typer.Option(metavar="SOURCE", help="Data to train on; repeatable.")
]
Validation = Annotated[
    list[str] | None, typer.Option(metavar="SOURCE", help="Data that chooses the best epoch.")
]
Test = Annotated[
    list[str] | None, typer.Option(metavar="SOURCE", help="Data to measure on at the end.")
]
Scratch = Annotated[
    Path | None,
    typer.Option(
        help="Folder to unpack images of tars and parquet files to; by default beside them."
    ),
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Exit with 1 for warnings too: skips, copies, shared captions."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")]


@app.callback()
def data() -> None:
    """Check data sets: captions.jsonl, COCO JSON, CSV, parquet, WebDataset tars and others."""


@app.command()
def check(
    sources: Sources = None,
    train: Train = None,
    validation: Validation = None,
    test: Test = None,
    file_format: FormatOption = None,
    columns: ColumnsOption = None,
    scratch: Scratch = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Validate a data set: counts, caption lengths, unreadable images, copies, leaks.

    Every image is decoded. SOURCEs that name splits themselves are checked split by split. The exit
    code is 1 when something would spoil training: splits that share an image, or a split with
    nothing usable.

    Example: `vireo data check --train ktvic/train.json@ktvic/train-images
    --test ktvic/test.json@ktvic/test-images`
    """
    named = {"data": sources, "train": train, "validation": validation, "test": test}
    splits = {name: texts for name, texts in named.items() if texts}
    if not splits:
        raise typer.BadParameter("name a SOURCE, or splits: --train A --validation B --test C")

    from vireo_client.errors import DataError

    from ..data import data_check
    from ..readers import column_names, read_mixture

    parts: dict[str, Part] = {}
    for name, texts in splits.items():
        try:
            read = read_mixture(
                texts, file_format=file_format, scratch=scratch, columns=column_names(columns)
            )
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        parts.update(_parts(name, read))
    report = data_check.check(parts)
    if as_json:
        findings = {"problems": report.problems, "warnings": report.warnings}
        say(json_line(asdict(report) | findings))
    else:
        say(*describe(report).split("\n"))
    if report.problems or (strict and report.warnings):
        raise typer.Exit(1)


def _parts(name: str, read: Mixture) -> dict[str, Part]:
    """Divide a set whose records name their splits; its skips stay with the first part.

    Of data given for one split, what is named for others is left out, unless that is all.
    """
    from vireo_client.captions import LeftOut

    from ..data.data_check import Part

    named = [s for s in (*_SPLITS, None) if any(record.split == s for record in read.records)]
    if name != "data" and (name in named or None in named):
        others = [record for record in read.records if record.split not in (name, None)]
        records = [record for record in read.records if record.split in (name, None)]
        left_out = [LeftOut(str(r.path), f"is in the {r.split} split") for r in others]
        return {name: Part(records, read.skipped, [*read.left_out, *left_out])}
    if name != "data" or named == [None]:
        return {name: Part(read.records, read.skipped, read.left_out)}
    parts: dict[str, Part] = {}
    for split in named:
        records = [record for record in read.records if record.split == split]
        first = not parts
        parts[split or "without a split"] = Part(
            records, read.skipped if first else [], read.left_out if first else []
        )
    return parts


def describe(report: DataReport) -> str:
    """Format a report for a terminal; long lists show their first entries."""
    lines: list[str] = []
    for name, split in report.splits.items():
        lines += [*_split_lines(name, split), ""]
    for overlap in report.overlaps:
        lines += _overlap_lines(overlap)
    lines += [f"problem: {text}" for text in report.problems]
    lines += [f"warning: {text}" for text in report.warnings]
    return "\n".join(lines if report.problems or report.warnings else [*lines, "no problems found"])


def _split_lines(name: str, split: SplitReport) -> list[str]:
    lines = [
        name,
        f"  images                {split.pictures}",
        f"  captions              {split.captions}",
        f"  captions per image    {_spread_text(split.captions_per_picture)}",
        f"  words per caption     {_spread_text(split.caption_words)}",
    ]
    shared = split.shared_captions
    if shared.captions:
        lines.append(
            f"  shared captions       {shared.captions} ({shared.share:.1%}): {shared.texts} text(s), "
            f"each of several images: {_spread_text(shared.images_per_text)}"
        )
    for reason, count in split.left_out.items():
        lines.append(f"  left out              {count}: {reason}")
    lines += _listed("skipped", [str(skip) for skip in split.skipped])
    lines += _listed("unreadable", [skip.reason for skip in split.unreadable])
    return lines + _listed("copies", [" = ".join(paths) for paths in split.duplicates])


def _overlap_lines(overlap: Overlap) -> list[str]:
    if not overlap.pictures and not overlap.captions:
        return []
    pairs = [" = ".join(pair) for pair in overlap.pictures]
    return [
        " and ".join(overlap.splits),
        *_listed("shared images", pairs),
        *_listed("shared captions", overlap.captions),
        "",
    ]


def _spread_text(spread: Spread | None) -> str:
    if spread is None:
        return "none"
    return f"min {spread.min}, median {spread.median:g}, p95 {spread.p95:g}, max {spread.max}"


def _listed(label: str, items: list[str]) -> list[str]:
    if not items:
        return []
    lines = [f"  {label:<20}  {len(items)}"]
    lines += [f"    {item}" for item in items[:_SHOWN]]
    if len(items) > _SHOWN:
        lines.append(f"    and {len(items) - _SHOWN} more (--json lists all)")
    return lines
