"""Measures the text path against the other Vietnamese segmenters, side by side in one run.

    python benchmarks/text_path.py --data ../shared/data

For each segmenter: start-up in a fresh process (import, model, first answer; without the Python
interpreter itself), the time of one caption of 12 words through normalise + segment + tokenise,
and captions a second for a batch. Writes `results/text_path.json` and prints a table.
"""

from __future__ import annotations

import argparse
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

HERE = Path(__file__).resolve().parent
CLIENT = HERE.parent / "client"
sys.path.insert(0, str(CLIENT))

from vireo_client.errors import SegmenterError  # noqa: E402
from vireo_client.text.pipeline import TextPath  # noqa: E402
from vireo_client.text.segment import Segmenter, load_segmenter  # noqa: E402
from vireo_client.text.tokenize import TextTokenizer, load_tokenizer  # noqa: E402
from vireo_client.text.vncorenlp.jvm import find_jar_folder  # noqa: E402

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
    """underthesea's segmenter behind our interface; it serves as a yardstick only."""

    name = "underthesea"

    def __init__(self) -> None:
        from underthesea import word_tokenize

        self._tokenize: Callable[..., str] = word_tokenize

    def segment(self, text: str) -> list[str]:
        """One sentence, words joined by `_`."""
        return [self._tokenize(text, format="text")]

    def files(self) -> dict[str, Path]:
        """None."""
        return {}


def start_up(name: str, folder: Path) -> float:
    """Median milliseconds from the first import to the first answer, each in a fresh process."""
    script = (
        "import sys, time\nstart = time.perf_counter()\nfrom pathlib import Path\n"
        f"{START[name]}\nprint('took', time.perf_counter() - start)"
    )
    environment = {**os.environ, "PYTHONPATH": str(CLIENT)}
    taken = []
    for _ in range(START_RUNS + 1):
        command = [sys.executable, "-c", script, str(folder)]
        output = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout
        taken.append(float(output.split("took ")[1]) * 1e3)
    return statistics.median(taken[1:])  # the first one compiled the modules


def one_by_one(path: TextPath, captions: list[str]) -> dict[str, float]:
    """Microseconds a caption through the whole path: median and 99th percentile.

    `p99_us` takes each caption's best of three rounds, so that it tells slow captions, not the
    turns of other processes; `p99_one_round_us` has those in it.
    """
    rounds = []
    for captions_of_round in (captions[:200], captions, captions, captions):  # the first warms up
        taken = []
        for caption in captions_of_round:
            start = time.perf_counter_ns()
            path.tokenizer.ids([path.segment(caption)])
            taken.append((time.perf_counter_ns() - start) / 1e3)
        rounds.append(taken)
    one = statistics.quantiles(rounds[1], n=100)
    best = statistics.quantiles(map(min, zip(*rounds[1:], strict=True)), n=100)
    return {"p50_us": one[49], "p99_us": best[98], "p99_one_round_us": one[98]}


def measure(segmenter: Segmenter, data: Path, captions: list[str], twelve: list[str]) -> Any:
    """The figures of one segmenter; the batch of slow ones is a tenth."""
    path = TextPath(segmenter, TextTokenizer(load_tokenizer(data / "phobert")))
    figures = one_by_one(path, twelve)
    batch = captions if figures["p50_us"] < 250 else captions[: len(captions) // 10]
    start = time.perf_counter()
    path.encode(batch)
    figures["captions_per_second"] = len(batch) / (time.perf_counter() - start)
    figures["batch"] = len(batch)
    return figures


def cpu_model() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def version(package: str) -> str:
    """A package's version, or that it is not there."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = os.environ.get("VIREO_DATA") or HERE.parent.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--output", type=Path, default=HERE / "results" / "text_path.json")
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
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("tokenizers", "pyvi", "underthesea")},
        "captions": {"one_by_one": len(twelve), "words": WORDS, "batch": len(captions)},
        "results": results,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", "utf-8")
    show(report)


def show(report: dict[str, Any]) -> None:
    """Prints the figures as a table."""
    from rich.console import Console
    from rich.table import Table

    title = f"{report['cpu']}, {report['cores']} cores, Python {report['python']}"
    table = Table(
        "segmenter",
        "start-up ms",
        "p50 µs",
        "p99 µs",
        "p99 µs, one round",
        "captions/s",
        title=title,
    )
    console = Console()
    notes = []
    for name, figures in report["results"].items():
        if "not_measured" in figures:
            table.add_row(name, *"-----")
            notes.append(f"{name} was not measured: {figures['not_measured']}")
        else:
            keys = ("start_up_ms", "p50_us", "p99_us", "p99_one_round_us", "captions_per_second")
            table.add_row(name, *(f"{figures[key]:,.0f}" for key in keys))
    console.print(table)
    for note in notes:
        console.print(note)


if __name__ == "__main__":
    main()
