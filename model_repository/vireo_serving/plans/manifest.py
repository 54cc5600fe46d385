"""The manifest beside each plan: the recipe it was built from, and the machines it runs on.

TensorRT refuses most plans that were built elsewhere, but late and in its own words. It even runs a
plan of another GPU of the same architecture, with a mere warning. The manifest is checked first.
"""

from __future__ import annotations

import platform
from pathlib import Path

from pydantic import Field, ValidationError
from vireo_client.bundle import file_sha256
from vireo_client.errors import EngineError, ExportError
from vireo_client.files import replacing_file

from .present import Gpu, present_gpu, present_tensorrt
from .recipe import Recipe

PLAN_FILE = "model.plan"

_REBUILD = "build it on this machine: `vireo export SOURCE --target tensorrt`, or the build.sh of the repository"  # noqa: E501


class Manifest(Recipe):
    """The contents of `model.plan.json`."""

    plan_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    gpu: Gpu
    tensorrt: str = Field(pattern=r"^\d+\.\d+\.\d+")
    """The version that built the plan, such as `11.4.0.106`."""
    platform: str
    """Operating system and processor; a plan does not move between them."""


def this_platform() -> str:
    """Return operating system and processor, such as `linux-x86_64`."""
    return f"{platform.system()}-{platform.machine()}".lower()


def manifest_file(plan: Path) -> Path:
    """Return the path of a plan's manifest."""
    return plan.with_name(plan.name + ".json")


def new_plan_file(plan: Path) -> Path:
    """Return the path of a new plan that is to replace `plan`, and is not in place yet."""
    return plan.with_name(plan.name + ".new")


def adopt_plan(plan: Path, recipe: Recipe, *, gpu: Gpu, tensorrt: str) -> Manifest:
    """Move a plan that was just built into place, and write its manifest beside it.

    The manifest is on disk before either is renamed: a full disk leaves the old pair, and a kill
    between the two renames leaves a pair that `check_manifest` refuses.

    Args:
        plan: the file to replace, by its `new_plan_file`.
        recipe: the recipe that it was built from.
        gpu: the GPU that it was built for.
        tensorrt: the version that built it.
    """
    new = new_plan_file(plan)
    manifest = Manifest(
        **recipe.model_dump(),
        plan_sha256=file_sha256(new),
        gpu=gpu,
        tensorrt=tensorrt,
        platform=this_platform(),
    )
    with replacing_file(manifest_file(plan)) as file:
        file.write(manifest.model_dump_json(indent=2).encode() + b"\n")
        file.flush()
        new.replace(plan)
    return manifest


def read_manifest(plan: Path) -> Manifest:
    """Read a plan's manifest.

    Raises:
        EngineError: there is none, or it is damaged or of an unknown schema version.
    """
    path = manifest_file(plan)
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise EngineError(
            f"{plan}: has no manifest ({path.name}), so it is not known where it runs; {_REBUILD}"
        ) from None
    except (ValidationError, ExportError) as error:
        reason = str(error).replace("\n", " ")
        raise EngineError(f"{path}: not a plan's manifest ({reason}); {_REBUILD}") from error


def check_manifest(plan: Path, *, gpu: Gpu | None = None, tensorrt: str | None = None) -> Manifest:
    """Check that this machine may load a plan.

    Args:
        plan: the plan's file.
        gpu: the GPU to run it on; by default this machine's.
        tensorrt: the version to load it with; by default this machine's.

    Returns:
        The plan's manifest.

    Raises:
        EngineError: the plan has no manifest, is not the file that was built, or was built for
            another GPU, TensorRT version or platform and without the compatibility that would
            allow it; or this machine's GPU or TensorRT cannot be determined.
    """
    manifest = read_manifest(plan)
    try:
        sha256 = file_sha256(plan)
    except FileNotFoundError:
        raise EngineError(f"{plan}: its manifest is there, but no plan; {_REBUILD}") from None
    if sha256 != manifest.plan_sha256:
        raise EngineError(
            f"{plan}: is not the plan that its manifest describes (a copy or build was cut off, or "
            f"the file was changed); copy both again, or {_REBUILD}"
        )
    if manifest.platform != this_platform():
        raise EngineError(
            f"{plan}: built on {manifest.platform}, this is {this_platform()}; {_REBUILD}"
        )
    gpu = gpu or present_gpu()
    if not _runs_on(manifest, gpu):
        wide = manifest.options.hardware_compatibility
        raise EngineError(
            f"{plan}: built for {manifest.gpu} with hardware compatibility {wide!r}, but this is "
            f"{gpu}; {_REBUILD}"
        )
    tensorrt = tensorrt or present_tensorrt()
    if not _loads_with(manifest, tensorrt):
        allowed = " or a later one" if manifest.options.version_compatible else ""
        raise EngineError(
            f"{plan}: built with TensorRT {manifest.tensorrt} and needs that version{allowed}, but "
            f"this is {tensorrt}; {_REBUILD}"
        )
    return manifest


def check_plans(repository: Path, version: int | None = None) -> list[Manifest]:
    """Check the plans of a model repository, as a server must before it loads them.

    Args:
        repository: the model repository.
        version: the version to load; by default every version that is kept.

    Returns:
        Their manifests; empty where there are no plans.

    Raises:
        EngineError: this machine must not load one of them.
    """
    folder = "[0-9]*" if version is None else str(version)
    plans = sorted(repository.glob(f"*/{folder}/{PLAN_FILE}"))
    if not plans:
        return []
    gpu, tensorrt = present_gpu(), present_tensorrt()
    return [check_manifest(plan, gpu=gpu, tensorrt=tensorrt) for plan in plans]


def _runs_on(manifest: Manifest, gpu: Gpu) -> bool:
    """Apply the levels of hardware compatibility (TensorRT, "Engine Compatibility")."""
    if gpu == manifest.gpu:
        return True
    if manifest.options.hardware_compatibility == "same_compute_capability":
        return gpu.compute_capability == manifest.gpu.compute_capability
    if manifest.options.hardware_compatibility == "ampere_plus":
        return _numbers(gpu.compute_capability) >= (8, 0)
    return False


def _loads_with(manifest: Manifest, version: str) -> bool:
    """Apply version compatibility (TensorRT, "Engine Compatibility").

    A plan needs the version that built it. With the flag it also loads in a later version of the
    same major number or of the next.
    """
    built, present = _numbers(manifest.tensorrt), _numbers(version)
    if not manifest.options.version_compatible:
        return built == present
    return present >= built and present[0] - built[0] <= 1


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
