"""NVIDIA's `perf_analyzer`: inputs for it, and its figures where it runs.

Its wheel needs a C library of version 2.38. On an older system it is started with the loader and
the libraries of a newer one, which lie unpacked in a folder (`docs/benchmarks.md` says how).
"""

from __future__ import annotations

import base64
import csv
import json
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LOADER = "ld-linux-x86-64.so.2"


@dataclass(frozen=True)
class PerfAnalyzer:
    """A `perf_analyzer` and the C library that it is started with.

    Args:
        binary: the program.
        libraries: a folder below which a newer loader and its libraries lie; None takes the
            system's own.
    """

    binary: Path
    libraries: Path | None = None

    def command(self) -> list[str]:
        """Return the words that start it.

        Raises:
            FileNotFoundError: the folder holds no loader.
        """
        if self.libraries is None:
            return [str(self.binary)]
        loaders = sorted(self.libraries.rglob(LOADER))
        if not loaders:
            raise FileNotFoundError(f"{self.libraries}: holds no {LOADER}; unpack libc6 into it")
        # One folder is named twice where /lib is a link.
        folders = sorted({str(file.parent.resolve()) for file in self.libraries.rglob("*.so*")})
        return [str(loaders[0]), "--library-path", ":".join(folders), str(self.binary)]

    def measure(
        self, url: str, model: str, inputs: Path, clients: int, seconds: float, output: Path
    ) -> dict[str, float]:
        """Run a closed loop and return answers a second and latencies in milliseconds.

        It takes three windows as they come: whether they agree shows in our own repeats.

        Args:
            url: `host:port` of Triton's gRPC endpoint.
            model: the model's name.
            inputs: a file of `write_inputs`.
            clients: how many requests are open at once.
            seconds: the length of a window.
            output: the CSV file to write.

        Raises:
            RuntimeError: it failed, with its last line in the message, or did not end.
        """
        words = [
            "-m", model, "-u", url, "-i", "grpc", "--input-data", str(inputs),
            "--concurrency-range", f"{clients}:{clients}",
            "--measurement-interval", str(round(seconds * 1000)),
            "--stability-percentage", "999", "-f", str(output),
        ]  # fmt: skip
        output.unlink(missing_ok=True)  # a file of an earlier run would be read in its place
        command, limit = [*self.command(), *words], 60 + 30 * seconds
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"perf_analyzer did not end within {limit:.0f} s") from None
        if done.returncode or not output.is_file():
            last = (done.stdout + done.stderr).strip().splitlines()[-1:]
            raise RuntimeError(f"perf_analyzer failed: {' '.join(last)}")
        return read_figures(output)


def read_figures(file: Path) -> dict[str, float]:
    """Read the CSV file of one load: answers a second, percentiles in milliseconds.

    Raises:
        ValueError: the file has no line of figures.
    """
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    if not rows:
        raise ValueError(f"{file}: perf_analyzer wrote no figures")
    found = rows[0]
    figures = {"per_second": float(found["Inferences/Second"])}
    for percent in (50, 90, 95, 99):
        figures[f"p{percent}"] = float(found[f"p{percent} latency"]) / 1e3
    return figures


def write_inputs(file: Path, name: str, values: Sequence[str | bytes]) -> Path:
    """Write values as `--input-data` takes them, and return the file.

    Args:
        file: the file to write.
        name: the input's name.
        values: texts, or encoded images. These are written in base 64 as Triton takes a
            string: its length in four bytes, then the string.
    """
    data = [
        {name: {"b64": base64.b64encode(struct.pack("<I", len(value)) + value).decode()}}
        if isinstance(value, bytes)
        else {name: [value]}
        for value in values
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"data": data}, ensure_ascii=False)
    file.write_text(text, encoding="utf-8")
    return file
