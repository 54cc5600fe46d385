"""Prepare a build elsewhere: recipes, `trtexec` lines and a script for a machine with a GPU."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from vireo_client.files import replacing_file
from vireo_serving.plans.manifest import PLAN_FILE, new_plan_file
from vireo_serving.plans.options import BuildOptions
from vireo_serving.plans.profiles import Profile
from vireo_serving.plans.recipe import make_recipe

from .trtexec import trtexec_command

BUILD_SCRIPT = "build.sh"
RECIPE_FILE = "model.recipe.json"
TIMING_CACHE_FILE = "timing.cache"

_HEAD = """\
#!/bin/sh
# Builds the TensorRT plans of this model repository, with a manifest beside each.
#
# Run it on the machine that will serve them, with the TensorRT version that Triton has there
# (NVIDIA's TensorRT and Triton images of one release have the same version): a plan runs on no
# other GPU and with no other version. The script needs trtexec, nvidia-smi and, for the manifests,
# a Python in which vireo is installed. Without trtexec, use TensorRT's Python package:
#     python3 -m vireo_export.tensorrt build .
set -eu
cd "$(dirname "$0")"
TRTEXEC=${TRTEXEC:-trtexec}
PYTHON=${PYTHON:-python3}
command -v "$TRTEXEC" >/dev/null || { echo "build.sh: no $TRTEXEC; set TRTEXEC to its path" >&2; exit 1; }
"$PYTHON" -c 'import vireo_export.tensorrt' || { echo "build.sh: $PYTHON has no vireo; set PYTHON to one with vireo installed" >&2; exit 1; }
"""  # noqa: E501


def dry_run(
    repository: Path,
    graphs: Mapping[str, Path],
    profiles: Mapping[str, Sequence[Profile]],
    options: BuildOptions | None = None,
    *,
    version: int = 1,
    precisions: Mapping[str, str] | None = None,
) -> list[str]:
    """Write a recipe for each plan and `build.sh`, which builds the plans on a machine with a GPU.

    All paths in them are relative to the repository, so it can be copied anywhere.

    Args:
        repository: the model repository, which holds the folders `<model>/<version>`.
        graphs: ONNX files inside the repository, by model name.
        profiles: input shapes by model name, see `bundle_profiles`.
        options: build options that the operator chose.
        version: number of the version folder for the plans.
        precisions: precisions of the graphs by model name; by default FP16.

    Returns:
        The `trtexec` lines, to run in the repository's folder.

    Raises:
        ExportError: a graph is missing.
        OSError: the repository cannot be written.
    """
    script, lines = [_HEAD], []
    for model, onnx in graphs.items():
        folder = repository / model / str(version)
        recipe = make_recipe(
            onnx,
            folder / PLAN_FILE,
            profiles[model],
            options,
            (precisions or {}).get(model, "fp16"),
        )
        with replacing_file(folder / RECIPE_FILE) as file:
            file.write(recipe.model_dump_json(indent=2).encode() + b"\n")
        inside = folder.relative_to(repository)
        command = trtexec_command(
            onnx.relative_to(repository),
            new_plan_file(inside / PLAN_FILE),
            recipe.profiles,
            recipe.options,
            timing_cache=Path(TIMING_CACHE_FILE),
        )
        lines.append(shlex.join(command))
        script.append(
            f'\n# {model}\n"$TRTEXEC" {shlex.join(command[1:])}\n'
            f'"$PYTHON" -m vireo_export.tensorrt adopt {shlex.quote(str(inside / RECIPE_FILE))}\n'
        )
    with replacing_file(repository / BUILD_SCRIPT) as file:
        file.write("".join(script).encode())
    (repository / BUILD_SCRIPT).chmod(0o755)
    return lines
