"""`vireo evaluate` and `vireo compare`. Heavy imports stay inside, so that --help is quick."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from vireo_client.commands.options import JsonOption, TritonOption
from vireo_client.extras import require
from vireo_client.printing import json_line, printable_lines, say

from .options import ColumnsOption, FormatOption


def evaluate(
    source: Annotated[str, typer.Argument(metavar="MODEL", help="A bundle, or a model repository made from one; or a model of others, as `vireo export` takes it: hf:OWNER/NAME, open_clip:MODEL@WEIGHTS, a folder of one.")],
    data: Annotated[str | None, typer.Option(metavar="DATA[@IMAGES]", help="Captioned images, as for `vireo train`.")] = None,
    queries: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Instead of --data: images that ask for images, with --references and --matches.")] = None,
    references: Annotated[Path | None, typer.Option(metavar="FOLDER", help="With --queries: the images to find.")] = None,
    matches: Annotated[Path | None, typer.Option(metavar="CSV", help="With --queries: query_id,reference_id a line, as DISC21 has it.")] = None,
    split: Annotated[str | None, typer.Option(help="test, validation, train or all. By default test, or all where neither the bundle nor DATA names splits.")] = None,
    columns: ColumnsOption = None,
    file_format: FormatOption = None,
    engine: Annotated[str | None, typer.Option(help="torch or onnx; by default the one that the folder holds.")] = None,
    triton: TritonOption = None,
    at: Annotated[str | None, typer.Option(metavar="K,K", help="Cut-offs k of recall@k and mAP@k, like 1,5,10,30. Reports of --out hold 1, 5 and 10 as well.")] = None,
    as_json: JsonOption = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write a full report there: JSON, Markdown, plots, sheets of queries.")] = None,
    train_data: Annotated[str | None, typer.Option(metavar="DATA[@IMAGES]", help="With --out: data whose training split the bag-of-words baseline learns from. Default: DATA, with --split test or validation.")] = None,
    baseline: Annotated[bool, typer.Option(help="With --out: measure the bag-of-words baseline (embeds the training images).")] = True,
    confidence: Annotated[float, typer.Option(help="With --out: the share of resamples that an interval holds.")] = 0.95,
    resamples: Annotated[int, typer.Option(min=1, help="With --out: bootstrap resamples.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="With --out: seed of resamples and samples.")] = 0,
) -> None:  # fmt: skip
    """Measure retrieval in both directions, beside chance: recall@1/5/10, MRR, median rank.

    With --out: all metrics with intervals, with accents and without, beside a bag of words, as
    files (docs/evaluation.md).

    With --queries: recall@k, mAP@k and DISC21's micro average precision from image to image.

    Example: `vireo evaluate runs/mine/bundle --data my-photos --out runs/mine/evaluation`

    Example: `vireo evaluate hf:google/siglip2-base-patch16-256 --data my-photos`
    """
    require("train", "torch", "timm")
    from vireo_client.bundle import WEIGHTS_FILE, Bundle
    from vireo_client.embedder import Embedder
    from vireo_client.progress import note
    from vireo_client.search import open_embedder

    from ..evaluation.evaluate import SPLITS, default_split, select_records
    from ..evaluation.evaluate import evaluate as run
    from ..evaluation.image_pairs import evaluate_images
    from ..evaluation.metrics import read_cutoffs
    from ..evaluation.plots import need_matplotlib
    from ..evaluation.report import ReportSettings, baseline_records, check_out, evaluate_in_full
    from ..evaluation.report_writer import write_report
    from ..models.torch_towers import TorchTowers
    from ..readers import column_names
    from ..sources import is_foreign, open_source

    if split is not None and split not in SPLITS:
        raise typer.BadParameter(f"--split is one of {', '.join(SPLITS)}")
    if engine not in (None, "torch", "onnx"):
        raise typer.BadParameter("--engine is torch or onnx")
    if engine is not None and triton is not None:
        raise typer.BadParameter("--engine and --triton exclude each other")
    if not 0 < confidence < 1:
        raise typer.BadParameter("--confidence lies between 0 and 1, like 0.95")
    if out is not None:  # checked now, since it would fail at the end
        check_out(out)
        need_matplotlib()
    names, cutoffs = column_names(columns), read_cutoffs(at)
    pairs = queries, references, matches
    if any(pairs) and (data is not None or out is not None or not all(pairs)):
        raise typer.BadParameter(
            "--queries, --references and --matches go together, without --data and --out"
        )
    if data is None and queries is None:
        raise typer.BadParameter("name the data to measure on: --data, or --queries and the rest")
    foreign = is_foreign(source)
    if foreign and (engine == "onnx" or triton is not None):
        raise typer.BadParameter(f"{source} runs in PyTorch until `vireo export` makes engines")
    opened = open_source(source) if foreign else None
    bundle = Path(source)
    model = opened.bundle if opened is not None else Bundle(bundle)
    if engine is None:
        engine = "torch" if foreign or (bundle / WEIGHTS_FILE).is_file() else "onnx"

    def open_towers() -> Embedder:
        if opened is not None:
            return Embedder(model, TorchTowers(opened.text_tower, opened.image_tower))
        if engine == "torch" and triton is None:
            return Embedder(model, TorchTowers.from_bundle(model))
        return open_embedder(model, triton)

    if queries is not None and references is not None and matches is not None:
        with open_towers() as embedder:
            report = evaluate_images(embedder, queries, references, matches, cutoffs)
        say(*(json_line(report) if as_json else metrics_table(report, cutoffs)).split("\n"))
        return
    assert data is not None
    split = split or default_split(model, "test", data, columns=names, file_format=file_format)
    records = select_records(model, data, split, columns=names, file_format=file_format)
    if split != "all" and any(record.split is not None for record in records):
        note(f"{data} names its splits: measured on its {split} split, {len(records)} images")
    training = None
    if out is not None and baseline:
        training = baseline_records(
            model, data, split, train_data, columns=names, file_format=file_format
        )
    with open_towers() as embedder:
        if out is None:
            report = run(embedder, records, cutoffs)
        else:
            settings = ReportSettings(confidence, resamples, seed, cutoffs)
            full = evaluate_in_full(embedder, records, training=training, settings=settings)
            name = bundle.resolve()
            own = name.parent.name if name.name == "bundle" else name.name
            full.report.update(
                bundle=source if foreign else own,
                data=Path(data.partition("@")[0]).resolve().name,
                split=split,
            )
            for path in write_report(full, out, run=None if foreign else name.parent):
                note(f"wrote {path}")
            report = full.report
    say(*(json_line(report) if as_json else metrics_table(report, cutoffs)).split("\n"))


def metrics_table(report: dict[str, Any], at: Sequence[int]) -> str:
    """Format the metrics of each direction and of chance for a terminal.

    Args:
        at: the cut-offs to show. Where they are not the usual ones, mAP@k is shown as well.
    """
    from ..evaluation.metrics import CUTOFFS

    tables = [_table(report, {**{f"recall_at_{k}": f"R@{k}" for k in at},
                              "mean_reciprocal_rank": "MRR", "median_rank": "median"})]  # fmt: skip
    if tuple(at) != CUTOFFS:
        tables.append(_table(report, {f"mean_average_precision_at_{k}": f"mAP@{k}" for k in at}))
    if "micro_average_precision" in report:
        tables.append(
            f"micro average precision {report['micro_average_precision']:.3f}, over "
            f"{report['queries']} queries, {report['distractors']} of them without a match"
        )
    return "\n\n".join(tables)


def _table(report: dict[str, Any], columns: dict[str, str]) -> str:
    lines = [f"{'':28}" + "".join(f"{head:>9}" for head in columns.values())]
    for way in ("text_to_image", "image_to_text", "image_to_image"):
        for prefix, label in (("", way.replace("_", " ")), ("chance_", "  chance")):
            if (figures := report.get(prefix + way)) is None:
                continue
            cells = "".join(
                f"{figures[name]:>9.1f}" if name == "median_rank" else f"{figures[name]:>9.3f}"
                for name in columns
            )
            name = label if prefix else f"{label} ({figures['queries']} of {figures['candidates']})"
            lines.append(f"{name:28}{cells}")
    return "\n".join(lines)


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders with a report of `vireo evaluate --out` (in them, or in their folder `evaluation`), or report.json files.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write comparison.md and comparison.png there.")] = None,
) -> None:  # fmt: skip
    """Compare runs in a table: metrics with intervals, beside bag of words and chance.

    Example: `vireo compare runs/small runs/base --out runs/comparison`
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
    from vireo_client.progress import note

    from ..evaluation.compare import differences, read_runs, write_comparison
    from ..evaluation.metrics import WAYS
    from ..evaluation.report_tables import TITLES, comparison_head, comparison_rows

    reports = read_runs(runs)
    if out is not None:
        write_comparison(out, reports)
    for line in differences(reports):
        note(line)
    answers = Console()
    for way in WAYS:
        rows, heads = comparison_rows(reports, way), comparison_head()
        # A cell is "0.106 (0.071 to 0.143)". Where a line has no room for seven of them, the
        # interval stands below its figure, and heads have two lines.
        narrow = answers.width < 24 * len(heads)
        table = Table(title=TITLES[way], title_justify="left", padding=(0, 0 if narrow else 1))
        if narrow:
            rows = [[name, *map(_stacked, cells)] for name, *cells in rows]
            heads = [_SHORT.get(head, head) for head in heads]
            table.caption = "below each figure its interval; bare: queries without diacritics"
        for number, head in enumerate(heads):
            table.add_column(
                head, justify="right" if number else "left", overflow="fold", no_wrap=number > 0
            )
        for row in rows:
            table.add_row(*(Text(printable_lines(cell)) for cell in row))
        answers.print(table)


_SHORT = {
    "mean reciprocal rank": "MRR",
    "median rank": "median",
    "recall@1 without diacritics": "r@1 bare",
    **{f"recall@{k}": f"r@{k}" for k in (1, 5, 10)},
}


def _stacked(cell: str) -> str:
    """Put the interval of a figure on a line of its own, without the zeros: `.07-.14`."""
    figure, bracket, interval = cell.partition(" (")
    if not bracket:
        return cell
    low, high = (float(end) for end in interval.rstrip(")").split(" to "))
    is_rank = len(figure.partition(".")[2]) == 1
    ends = (f"{end:.0f}" if is_rank or end > 0.995 else f"{end:.2f}"[1:] for end in (low, high))
    return f"{figure}\n{'-'.join(ends)}"
