"""Measure the text path beside the other Vietnamese segmenters, in one run.

    python benchmarks/text_path.py --data ../shared/data

For each segmenter: start-up in a fresh process (import, model, first answer; without the Python
interpreter itself), the time of one caption of 12 words through normalise + segment + tokenize,
and captions a second for a batch. Writes `benchmarks/results/text_path.json` and prints a table.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from support import ROOT, cpu_name, data_folder, option_parser, print_table, write_report
from vireo_client.errors import SegmenterError
from vireo_client.text.pipeline import TextPath
from vireo_client.text.segment import Segmenter, load_segmenter
from vireo_client.text.tokenize import TextTokenizer, load_tokenizer
from vireo_client.text.vncorenlp.jvm import find_jar_folder

WORDS = 12
BATCH = 20_000
START_RUNS = 7
SAMPLE = 2_000

START = {
    "vncorenlp": "from vireo_client.text.segment import load_segmenter\n"
    "load_segmenter('vncorenlp', Path(sys.argv[1])).segment('xe hơi')",
    "py_vncorenlp": "from vireo_client.text.segment import load_segmenter\n"
    "load_segmenter('py_vncorenlp', Path(sys.argv[1])).segment('xe hơi')",
    "pyvi": "from pyvi import ViTokenizer\nViTokenizer.tokenize('xe hơi')",
    "underthesea": "from underthesea import word_tokenize\nword_tokenize('xe hơi', format='text')",
}


class Underthesea:
    """underthesea's segmenter behind our interface, for comparison only."""

    name = "underthesea"

    def __init__(self) -> None:
        from underthesea import word_tokenize

        self._tokenize: Callable[..., str] = word_tokenize

    def segment(self, text: str) -> list[str]:
        """Return one sentence, its words joined by `_`."""
        return [self._tokenize(text, format="text")]

    def files(self) -> dict[str, Path]:
        """Return nothing: it has no files that a bundle would carry."""
        return {}


def start_up(name: str, folder: Path) -> float:
    """Return the median milliseconds from first import to first answer, in fresh processes."""
    script = (
        "import sys, time\nstart = time.perf_counter()\nfrom pathlib import Path\n"
        f"{START[name]}\nprint('seconds', time.perf_counter() - start)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "client")}
    milliseconds = []
    for _ in range(START_RUNS + 1):
        command = [sys.executable, "-c", script, str(folder)]
        output = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout
        milliseconds.append(float(output.split("seconds ")[1]) * 1e3)
    return statistics.median(milliseconds[1:])  # the first one compiled the modules


def one_by_one(path: TextPath, captions: list[str]) -> dict[str, float]:
    """Return microseconds a caption through the whole path: median and 99th percentile.

    `p99_us` takes each caption's best of three rounds: it shows slow captions and not the times at
    which other processes ran. `p99_one_round_us` has those in it.
    """
    rounds = []
    for captions_of_round in (captions[:200], captions, captions, captions):  # the first warms up
        times = []
        for caption in captions_of_round:
            start = time.perf_counter_ns()
            path.tokenizer.ids([path.segment(caption)])
            times.append((time.perf_counter_ns() - start) / 1e3)
        rounds.append(times)
    one = statistics.quantiles(rounds[1], n=100)
    best = statistics.quantiles(map(min, zip(*rounds[1:], strict=True)), n=100)
    return {"p50_us": one[49], "p99_us": best[98], "p99_one_round_us": one[98]}


def measure(segmenter: Segmenter, data: Path, captions: list[str], twelve: list[str]) -> Any:
    """Return the figures of one segmenter. A slow one gets a tenth of the batch."""
    path = TextPath(segmenter, TextTokenizer(load_tokenizer(data / "phobert")))
    figures = one_by_one(path, twelve)
    batch = captions if figures["p50_us"] < 250 else captions[: len(captions) // 10]
    start = time.perf_counter()
    path.encode(batch)
    figures["captions_per_second"] = len(batch) / (time.perf_counter() - start)
    figures["batch"] = len(batch)
    return figures


def version(package: str) -> str:
    """Return a package's version, or `not installed`."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def main() -> None:
    parser = option_parser(__doc__, "text_path.json")
    parser.add_argument("--data", type=Path, default=data_folder(), help="the data folder")
    options = parser.parse_args()
    data: Path = options.data

    model = data / "vncorenlp" / "models" / "wordsegmenter"
    ours = load_segmenter("vncorenlp", model)
    lines = (data / "captions_vi" / "coco4k_vi_captions.jsonl").read_text("utf-8").splitlines()
    captions = [caption for line in lines for caption in json.loads(line)["captions"]][:BATCH]
    twelve = [c for c in captions if len(" ".join(ours.segment(c)).split()) == WORDS][:SAMPLE]

    loaders: dict[str, tuple[Callable[[], Segmenter], Path]] = {
        "vncorenlp": (lambda: ours, model),
        "py_vncorenlp": (lambda: load_segmenter("py_vncorenlp", find_jar_folder()), data),
        "pyvi": (lambda: load_segmenter("pyvi"), data),
        "underthesea": (Underthesea, data),
    }
    results: dict[str, Any] = {}
    for name, (load, folder) in loaders.items():
        try:
            segmenter = load()
        except SegmenterError:  # its message names folders of this machine
            results[name] = {"not_measured": "its package or its jar is not present here"}
            continue
        except ImportError:
            results[name] = {"not_measured": "not installed"}
            continue
        if name == "py_vncorenlp":
            folder = find_jar_folder()
        results[name] = {"start_up_ms": start_up(name, folder)}
        results[name].update(measure(segmenter, data, captions, twelve))

    report = {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("tokenizers", "pyvi", "underthesea")},
        "captions": {"one_by_one": len(twelve), "words": WORDS, "batch": len(captions)},
        "results": results,
    }
    write_report(report, options.output)
    show(report)


def show(report: dict[str, Any]) -> None:
    keys = ("start_up_ms", "p50_us", "p99_us", "p99_one_round_us", "captions_per_second")
    rows, notes = [], []
    for name, figures in report["results"].items():
        if "not_measured" in figures:
            rows.append([name, *"-----"])
            notes.append(f"{name} was not measured: {figures['not_measured']}")
        else:
            rows.append([name, *(f"{figures[key]:,.0f}" for key in keys)])
    head = ("segmenter", "start-up ms", "p50 µs", "p99 µs", "p99 µs, one round", "captions/s")
    title = f"{report['cpu']}, {report['cores']} cores, Python {report['python']}"
    print_table(head, rows, title=title)
    for note in notes:
        Console().print(note)


if __name__ == "__main__":
    main()
