"""Prepares what a machine without a network needs: `python -m benchmarks.gpu.carry FOLDER`.

FOLDER gets `wheels`, the packages for CUDA; `work`, the towers with their FP16 files; and `run.sh`,
which is run there, in the checkout's root, with FOLDER and the folder of the report. Never run
yet on a machine with a GPU.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ..jobs.run import FULL
from ..models import build
from ..models.gpu_engines import build_gpu_engines
from ..models.operations import work_of
from ..models.sizes import pair as pair_of
from .towers import BUCKETS

PACKAGES = (
    ".[gpu,export]", "torch", "scikit-learn", "matplotlib", "psutil", "threadpoolctl", "fastapi",
    "uvicorn", "numpy<2",
)  # fmt: skip
SCRIPT = """#!/bin/sh
# In the root of the checkout: sh FOLDER/run.sh FOLDER OUT
set -eu
folder=$1 out=$2
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-index --find-links "$folder/wheels" {packages}
for job in latency index; do
    "$folder/venv/bin/python" -m benchmarks "$job" --device cuda --work "$folder/work" \\
        --out "$out/$job"
done
"""


def prepare(folder: Path) -> None:
    """Write wheels, towers and the script to a folder."""
    wheels, work = folder / "wheels", folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--wheel-dir", wheels, *PACKAGES]
    subprocess.run([str(word) for word in command], check=True)
    for name in FULL.pairs:
        pair = pair_of(name)
        built = build.build(pair, work)
        build_gpu_engines(built, work)
        if pair.text:
            for bucket in BUCKETS:
                work_of(built.bundle, "text", bucket)
        if pair.image:
            work_of(built.bundle, "image")
    names = [name.replace(".[gpu,export]", "'vireo[gpu,export]'") for name in PACKAGES]
    words = " ".join(f'"{name}"' if "<" in name else name for name in names)
    (folder / "run.sh").write_text(SCRIPT.format(packages=words), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.gpu.carry FOLDER")
    prepare(Path(sys.argv[1]).resolve())
