"""The `trtexec` line that builds the same plan on another machine.

The flags are those of TensorRT 10 and 11 (samples/common/sampleOptions.cpp of TensorRT's open
source part, releases 10.0 to 11.1). In 11 all networks are strongly typed; `--stronglyTyped` is
accepted and has no effect.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from vireo_serving.plans.options import BuildOptions
from vireo_serving.plans.profiles import Profile, dims

_COMPATIBILITY = {"same_compute_capability": "sameComputeCapability", "ampere_plus": "ampere+"}


def trtexec_command(
    onnx: Path,
    plan: Path,
    profiles: Sequence[Profile],
    options: BuildOptions | None = None,
    *,
    timing_cache: Path | None = None,
) -> list[str]:
    """Return the program and its arguments.

    The shapes of a profile must directly follow its `--profile=N`.
    """
    options = options or BuildOptions()
    command = ["trtexec", f"--onnx={onnx}", f"--saveEngine={plan}", "--stronglyTyped"]
    for number, profile in enumerate(profiles):
        command.append(f"--profile={number}")
        for name in ("min", "opt", "max"):
            command.append(f"--{name}Shapes={profile.input}:{dims(getattr(profile, name))}")
    command.append(f"--builderOptimizationLevel={options.optimization_level}")
    if options.workspace_bytes is not None:
        # In MiB and without a unit, because releases differ in the units that they accept.
        command.append(f"--memPoolSize=workspace:{options.workspace_bytes / 2**20:.17g}")
    if timing_cache is not None:
        command.append(f"--timingCacheFile={timing_cache}")
    if options.hardware_compatibility != "none":
        level = _COMPATIBILITY[options.hardware_compatibility]
        command.append(f"--hardwareCompatibilityLevel={level}")
    if options.version_compatible:
        command.append("--versionCompatible")
    return [*command, "--skipInference"]


def trtexec_line(
    onnx: Path,
    plan: Path,
    profiles: Sequence[Profile],
    options: BuildOptions | None = None,
    *,
    timing_cache: Path | None = None,
) -> str:
    """Return `trtexec_command` as one line for a POSIX shell."""
    return shlex.join(trtexec_command(onnx, plan, profiles, options, timing_cache=timing_cache))
