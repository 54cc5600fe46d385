"""What a figure depends on: the machine, the versions, the commit, the threads."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil
from vireo_client.cores import usable_cores

from ..support import ROOT, cpu_name

PACKAGES = (
    "vireo", "numpy", "onnxruntime", "onnxruntime-gpu", "torch", "transformers", "timm",
    "faiss-cpu", "faiss-gpu", "tritonclient", "nvidia-pytriton", "scikit-learn", "hnswlib",
    "usearch", "tokenizers", "pyvi", "tensorrt", "fastapi", "uvicorn",
)  # fmt: skip
THREAD_SETTINGS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ORT_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
)  # fmt: skip


def provenance() -> dict[str, Any]:
    """Return machine, software and commit, as a report has them."""
    return {"machine": machine(), "software": software(), "commit": commit()}


def machine() -> dict[str, Any]:
    """Return what the machine is, and how busy it was before."""
    return {
        "cpu": cpu_name(),
        "instructions": instructions(),
        "cores": usable_cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpu": gpus(),
        "system": f"{platform.system()} {platform.release()}",
        # Of the last minute, whatever else the machine did.
        "load_before": round(os.getloadavg()[0], 2),
    }


def software() -> dict[str, Any]:
    """Return the versions of what takes part, and the settings of threads."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    threads = {name: os.environ[name] for name in THREAD_SETTINGS if name in os.environ}
    return {"versions": versions, "thread_settings": threads}


def commit() -> dict[str, Any]:
    """Return the commit of the checkout, and whether files were changed since; {} without git."""
    try:
        name = _git("rev-parse", "HEAD")
        changed = bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return {}  # a checkout without its history
    return {"name": name, "date": _git("log", "-1", "--format=%cs"), "changed": changed}


def instructions() -> list[str]:
    """Return the processor's instructions that decide how fast matrices are."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    return [f for f in flags if f.startswith(("avx2", "avx512_vnni", "avx512_bf16", "amx", "avx_"))]


def gpus() -> list[str]:
    """Return the names of NVIDIA GPUs, as their driver gives them."""
    command = [
        "nvidia-smi",
        "--query-gpu=name,memory.total,driver_version",
        "--format=csv,noheader",
    ]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []  # no driver: no GPU
    return answer.stdout.strip().splitlines()


def _git(*words: str) -> str:
    answer = subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    return answer.stdout.strip()
