"""`text`: the Vietnamese text path, stage by stage, beside the other segmenters."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from vireo_client.bundle import Bundle
from vireo_client.text.pipeline import TextPath

from ..report.document import Report
from ..report.markdown import latency_cells
from ..report.measurement import Measurement, latency, rate
from ..support import data_folder
from . import scripts
from .run import Run
from .subjects import served

BATCH = 5_000


def run(run: Run) -> Report:
    """Measure and return the report."""
    report = run.report("text")
    own_path(run, report)
    if (data_folder() / "phobert").is_dir():
        beside_others(run, report)
        segmentation_quality(run, report)
    else:
        why = "VIREO_DATA names no folder with PhoBERT's files and the reference answers"
        report.cannot("segmenters beside each other", why)
    return report


def own_path(run: Run, report: Report) -> None:
    """Measure segmenting and tokenizing with the text path of the towers of real size."""
    subject = served(run)
    path = TextPath.from_bundle(Bundle(subject.repository))
    captions = run.captions()
    texts = captions.drawn(BATCH)
    report.note(f"Text path: {path.segmenter.name}; {captions.source}.")
    segmented = [path.segment(text) for text in texts]
    tokenize: Callable[[str], Any] = lambda text: path.tokenizer.ids([text])  # noqa: E731
    stages: dict[str, tuple[Callable[[str], Any], list[str]]] = {
        "normalise and segment": (path.segment, texts),
        "tokenize": (tokenize, segmented),
    }
    rows = []
    for name, (stage, values) in stages.items():
        measured = report.add(f"text path/{name}", _one_by_one(run, stage, values))
        rows.append([name, *latency_cells(measured.samples)])
    report.table("The text path of one text", ["stage", "p50, ms", "p95", "p99"], rows)
    rates = []
    for _ in range(run.rounds):
        start = time.perf_counter()
        path.encode(texts)
        rates.append(len(texts) / (time.perf_counter() - start))
    measured = report.add("text path/batch", rate(rates, batch=len(texts)))
    report.note(f"A batch of {len(texts):,} texts: {measured.value:,.0f} texts a second.")


def _one_by_one(run: Run, stage: Callable[[str], Any], texts: list[str]) -> Measurement:
    count = run.plan.calls * 10
    rounds = []
    for number in range(run.rounds):
        seconds = []
        for n in range(number * count, (number + 1) * count):
            start = time.perf_counter()
            stage(texts[n % len(texts)])
            seconds.append(time.perf_counter() - start)
        rounds.append(seconds)
    return latency(rounds)


def beside_others(run: Run, report: Report) -> None:
    """Run `text_path.py`: start-up, one caption, and a batch, for each segmenter."""
    output = run.out / "scripts" / "text_path.json"
    found = [scripts.run("text_path", output) for _ in range(1 if run.quick else 3)]
    rows = []
    for name, figures in found[-1]["results"].items():
        if "not_measured" in figures:
            report.cannot(f"segmenter {name}", figures["not_measured"])
            continue
        cells = []
        for key, unit, better in (
            ("start_up_ms", "ms", "lower"),
            ("p50_us", "us", "lower"),
            ("p99_us", "us", "lower"),
            ("captions_per_second", "1/s", "higher"),
        ):
            values = tuple(report_["results"][name][key] for report_ in found)
            measured = Measurement(unit, better, values)
            report.add(f"segmenter/{name}/{key}", measured)
            cells.append(f"{measured.value:,.0f}")
        rows.append([name, *cells])
        if name != "vncorenlp":
            report.ratio(
                f"segmenter: {name}'s time over vncorenlp's",
                f"segmenter/{name}/p50_us",
                "segmenter/vncorenlp/p50_us",
            )
    head = ["segmenter", "start-up, ms", "p50, µs", "p99, µs", "captions/s"]
    report.table("Segmenters, captions of 12 words with PhoBERT's tokenizer", head, rows)


def segmentation_quality(run: Run, report: Report) -> None:
    """Run `segmentation_quality.py`: each segmenter against gold words."""
    output = run.out / "scripts" / "segmentation_quality.json"
    try:
        scripts.run("segmentation_quality", output)
    except RuntimeError as error:
        report.cannot("segmentation quality", str(error))
    else:
        report.note(f"Segmenters against gold words: `scripts/{output.name}`.")
