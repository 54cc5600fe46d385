"""Finds a Triton and the Python that its Python backend will use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from vireo_client.errors import EngineError, ServerError

from ..plans import manifest as tensorrt_manifest
from ..plans.manifest import PLAN_FILE
from ..reload.publication import Publication
from . import carrier


def find_triton(binary: Path | None) -> tuple[list[str], dict[str, str]]:
    """Return how to start Triton: the first words of the command line, and the environment.

    Args:
        binary: a `tritonserver`; by default the one on PATH, else the carrier.

    Raises:
        ServerError: there is none.
    """
    environment = dict(os.environ)
    # The Python backend takes the environment of the first python3 on PATH: make it ours.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    if binary is not None:
        if not os.access(binary, os.X_OK) or binary.is_dir():
            raise ServerError(f"{binary}: no such program; --triton names a tritonserver binary")
        return [str(binary)], environment
    if installed := shutil.which("tritonserver"):
        return [installed], environment
    carried = carrier.find()
    if carried is None:
        raise ServerError(
            "no Triton Inference Server: none on PATH, and the carrier is not installed; "
            "`vireo serve --install-carrier` fetches one (Linux, x86-64)"
        )
    paths = [*map(str, carried.libraries), environment.get("LD_LIBRARY_PATH", "")]
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(path for path in paths if path)
    command = [
        str(carried.binary),
        f"--backend-directory={carried.backends}",
        f"--cache-directory={carried.caches}",
    ]
    return command, environment


def check_python(environment: dict[str, str], *, towers: bool) -> None:
    """Refuse an environment in which the Python backend would fail, some of it silently.

    Args:
        environment: the server's.
        towers: whether that backend runs the towers too, not only preprocessing.

    Raises:
        ServerError: no python3, a package is missing, or numpy 2.
    """
    python = shutil.which("python3", path=environment["PATH"])
    if python is None:
        raise ServerError("no python3 on PATH; Triton's Python backend needs one")
    packages = ["numpy", "vireo_serving", *(["onnxruntime"] if towers else [])]
    program = f"import {', '.join(packages)}; print(numpy.__version__)"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it fails"
        raise ServerError(
            f"{python}: {reason}; the models need {', '.join(packages)} there: "
            + (
                "pip install 'vireo[cpu]', or 'vireo[gpu]' where that is installed already"
                if towers
                else "pip install 'vireo'"
            )
        )
    version = done.stdout.strip()
    if int(version.split(".")[0]) >= 2:
        raise ServerError(
            f"{python}: numpy is {version}; under numpy 2 Triton's Python backend returns empty "
            "outputs without an error: pip install 'numpy==1.26.4' there"
        )


def check_plans(publication: Publication) -> list[str]:
    """Refuse TensorRT plans that this machine must not load, before Triton tries to.

    Returns:
        Flags that Triton needs to load them.

    Raises:
        EngineError: a plan is missing, or was built for another GPU or TensorRT version.
    """
    wanted = [m for m, config in publication.configs.items() if config.backend == "tensorrt"]
    for model in wanted:
        plan = publication.folder / model / str(publication.versions[model]) / PLAN_FILE
        if not plan.is_file():
            raise EngineError(
                f"{model}: no plan has been built yet; run build.sh in the repository, on the "
                "machine that serves it"
            )
    manifests = tensorrt_manifest.check_plans(publication.folder) if wanted else []
    if any(manifest.options.version_compatible for manifest in manifests):
        return ["--backend-config=tensorrt,version-compatible=true"]
    return []
