import subprocess
from pathlib import Path

from vireo_export.tensorrt.trtexec import trtexec_line
from vireo_serving.plans.options import BuildOptions
from vireo_serving.plans.profiles import Profile

PROFILES = [Profile("input_ids", (1, n), (8, n), (64, n)) for n in (16, 32)]


def _words(line):
    """Split the line by a real shell."""
    result = subprocess.run(
        ["sh", "-c", f'trtexec() {{ printf "%s\\n" "$@"; }}; {line}'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return result.stdout.splitlines()


def test_each_profile_stands_before_its_own_shapes():
    words = _words(trtexec_line(Path("t.onnx"), Path("t.plan"), PROFILES))
    assert words == [
        "--onnx=t.onnx",
        "--saveEngine=t.plan",
        "--stronglyTyped",
        "--profile=0",
        "--minShapes=input_ids:1x16",
        "--optShapes=input_ids:8x16",
        "--maxShapes=input_ids:64x16",
        "--profile=1",
        "--minShapes=input_ids:1x32",
        "--optShapes=input_ids:8x32",
        "--maxShapes=input_ids:64x32",
        "--builderOptimizationLevel=3",
        "--skipInference",
    ]


def test_every_option_has_its_flag():
    options = BuildOptions(
        workspace_bytes=5 << 29, optimization_level=5, version_compatible=True,
        hardware_compatibility="same_compute_capability",
    )  # fmt: skip
    line = trtexec_line(
        Path("t.onnx"), Path("t.plan"), PROFILES, options, timing_cache=Path("c.bin")
    )
    words = _words(line)
    assert "--memPoolSize=workspace:2560" in words  # MiB
    assert "--builderOptimizationLevel=5" in words
    assert "--timingCacheFile=c.bin" in words
    assert "--hardwareCompatibilityLevel=sameComputeCapability" in words
    assert "--versionCompatible" in words
    ampere = BuildOptions(hardware_compatibility="ampere_plus", workspace_bytes=1)
    words = _words(trtexec_line(Path("t.onnx"), Path("t.plan"), PROFILES, ampere))
    assert "--hardwareCompatibilityLevel=ampere+" in words
    (pool,) = [word for word in words if word.startswith("--memPoolSize")]
    assert float(pool.rpartition(":")[2]) * 2**20 == 1


def test_any_path_is_one_word_for_a_shell():
    onnx = Path("my models/it's $HOME & `more`;.onnx")
    words = _words(trtexec_line(onnx, Path("a plan"), PROFILES))
    assert words[:2] == [f"--onnx={onnx}", "--saveEngine=a plan"]
