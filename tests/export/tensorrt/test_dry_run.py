"""A dry run here, and the build on a machine with a GPU.

These tests replace trtexec and nvidia-smi by scripts, and TensorRT's library by a stub. The build
script, the shell and the commands are the real ones.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.tensorrt_bindings import compile_library, version_functions
from vireo_client.errors import ExportError
from vireo_export.tensorrt.dry_run import dry_run
from vireo_serving.plans.manifest import check_manifest
from vireo_serving.plans.options import BuildOptions
from vireo_serving.plans.present import Gpu
from vireo_serving.plans.profiles import Profile

PROFILES = {
    "text_encoder": [Profile("input_ids", (1, n), (8, n), (64, n)) for n in (16, 32)],
    "image_encoder": [Profile("pixels", (1, 3, 8, 8), (8, 3, 8, 8), (64, 3, 8, 8))],
}

# Accept trtexec's flags and no others, fail for a bad graph, and write a plan.
TRTEXEC = """
for word in "$@"; do
    case "$word" in
        --onnx=*) onnx=${word#*=} ;;
        --saveEngine=*) plan=${word#*=} ;;
        --timingCacheFile=*) cache=${word#*=} ;;
        --profile=*|--minShapes=*|--optShapes=*|--maxShapes=*|--builderOptimizationLevel=*) ;;
        --memPoolSize=workspace:*|--stronglyTyped|--skipInference) ;;
        *) echo "unknown option: $word" >&2; exit 2 ;;
    esac
done
grep -q bad "$onnx" && { echo "could not parse $onnx" >&2; exit 1; }
echo "plan of $(cat "$onnx")" > "$plan"
echo timings >> "$cache"
"""


@pytest.fixture
def repository(tmp_path):
    """A model repository as an export for TensorRT writes it, without plans."""
    folder = tmp_path / "a repository"
    for model in PROFILES:
        (folder / model / "1").mkdir(parents=True)
        (folder / model / "1" / "model.onnx").write_text(f"graph of {model}")
    return folder


@pytest.fixture
def graphs(repository):
    return {model: repository / model / "1" / "model.onnx" for model in PROFILES}


@pytest.fixture
def gpu_machine(program, l4, tmp_path):
    """Run a command as on a machine with an L4, TensorRT 11.4.0.106 and trtexec."""
    program("trtexec", TRTEXEC)
    program("python3", f'exec "{sys.executable}" "$@"')
    libraries = tmp_path / "libraries"
    compile_library(libraries, "nvinfer.so.11", version_functions(11, 4, 0, 106))

    def run(*command, **environment):
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "LD_LIBRARY_PATH": str(libraries), **environment},
        )  # fmt: skip

    return run


def _plans(repository):
    return sorted(str(p.relative_to(repository)) for p in repository.rglob("*.plan*"))


def test_a_dry_run_writes_recipes_and_a_script_and_returns_the_lines(repository, graphs):
    lines = dry_run(repository, graphs, PROFILES, BuildOptions(workspace_bytes=1 << 30))
    assert len(lines) == 2
    assert lines[0].startswith(
        "trtexec --onnx=text_encoder/1/model.onnx --saveEngine=text_encoder/1/model.plan.new "
        "--stronglyTyped --profile=0 --minShapes=input_ids:1x16 "
    )
    recipe = json.loads((repository / "text_encoder/1/model.recipe.json").read_text())
    assert recipe["onnx"] == "model.onnx"
    assert len(recipe["profiles"]) == 2
    assert recipe["options"]["workspace_bytes"] == 1 << 30
    script = (repository / "build.sh").read_text()
    for line in lines:
        assert line.removeprefix("trtexec") in script
    assert os.access(repository / "build.sh", os.X_OK)
    assert str(repository) not in script
    assert _plans(repository) == []


def test_the_script_builds_plans_that_this_machine_may_load(repository, graphs, gpu_machine):
    dry_run(repository, graphs, PROFILES, BuildOptions(workspace_bytes=1 << 30))
    # The folder may lie anywhere on the other machine.
    moved = repository.rename(repository.with_name("it's moved"))
    result = gpu_machine(str(moved / "build.sh"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "text_encoder/1/model.plan: fp16, for NVIDIA L4" in result.stdout
    assert _plans(moved) == [
        f"{model}/1/model.plan{end}" for model in sorted(PROFILES) for end in ("", ".json")
    ]
    plan = moved / "text_encoder" / "1" / "model.plan"
    assert plan.read_text() == "plan of graph of text_encoder\n"
    l4 = Gpu(name="NVIDIA L4", compute_capability="8.9")
    manifest = check_manifest(plan, gpu=l4, tensorrt="11.4.0.106")
    assert manifest.profiles == tuple(PROFILES["text_encoder"])
    # The command that an operator would use agrees.
    checked = gpu_machine("python3", "-m", "vireo_export.tensorrt", "check", str(moved))
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count("NVIDIA L4 (compute capability 8.9), TensorRT 11.4.0.106: ok") == 2
    # A second run replaces the plans and adds to the timings.
    assert gpu_machine(str(moved / "build.sh")).returncode == 0
    assert (moved / "timing.cache").read_text() == "timings\n" * 4


def test_a_build_that_fails_leaves_the_old_plan(repository, graphs, gpu_machine):
    dry_run(repository, graphs, PROFILES)
    assert gpu_machine(str(repository / "build.sh")).returncode == 0
    plan = repository / "text_encoder" / "1" / "model.plan"
    before = plan.read_bytes()
    graphs["text_encoder"].write_text("a bad graph")
    dry_run(repository, graphs, PROFILES)
    result = gpu_machine(str(repository / "build.sh"))
    assert result.returncode == 1
    assert "could not parse" in result.stderr
    assert plan.read_bytes() == before


def test_a_graph_that_changed_after_the_dry_run_is_refused(repository, graphs, gpu_machine):
    dry_run(repository, graphs, PROFILES)
    graphs["text_encoder"].write_text("another graph")
    result = gpu_machine(str(repository / "build.sh"))
    assert result.returncode == 1
    assert "not the graph that" in result.stderr
    assert not (repository / "text_encoder" / "1" / "model.plan").exists()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TRTEXEC": "no-such-trtexec"}, "build.sh: no no-such-trtexec; set TRTEXEC to its path"),
        ({"PYTHONPATH": "", "PYTHON": "false"}, "build.sh: false has no vireo; set PYTHON"),
    ],
)
def test_the_script_says_what_is_missing(repository, graphs, gpu_machine, environment, message):
    dry_run(repository, graphs, PROFILES)
    result = gpu_machine(str(repository / "build.sh"), **environment)
    assert result.returncode == 1
    assert message in result.stderr


def test_a_check_without_the_right_gpu_fails(repository, graphs, gpu_machine, nvidia_smi):
    dry_run(repository, graphs, PROFILES)
    assert gpu_machine(str(repository / "build.sh")).returncode == 0
    nvidia_smi("0, GPU-eeee-5555, Tesla T4, 7.5")
    result = gpu_machine("python3", "-m", "vireo_export.tensorrt", "check", str(repository))
    assert result.returncode == 1
    assert "built for NVIDIA L4 (compute capability 8.9)" in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "."], "no model.plan in it"),
        (["build", "."], "no model.recipe.json in it"),
        (["adopt", "model.recipe.json"], "no such recipe; a dry run writes it"),
    ],
)
def test_the_commands_say_what_is_missing(tmp_path, arguments, message):
    result = subprocess.run(
        [sys.executable, "-m", "vireo_export.tensorrt", *arguments], cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_damaged_recipe_and_a_missing_plan_are_named(repository, graphs, gpu_machine):
    dry_run(repository, graphs, PROFILES)
    recipe = repository / "text_encoder" / "1" / "model.recipe.json"
    adopt = ("python3", "-m", "vireo_export.tensorrt", "adopt", str(recipe))
    assert "trtexec left no plan" in gpu_machine(*adopt).stderr
    recipe.write_text("{}")
    assert "not a recipe" in gpu_machine(*adopt).stderr


def test_a_graph_that_is_missing_is_named(repository, graphs):
    graphs["text_encoder"].unlink()
    with pytest.raises(ExportError, match=r"text_encoder/1/model\.onnx: no such graph"):
        dry_run(repository, graphs, PROFILES)


@pytest.mark.usefixtures("l4")
def test_recipes_are_also_built_by_the_python_package(repository, graphs, world, bindings):
    from vireo_export.tensorrt.commands import build

    dry_run(repository, graphs, dict.fromkeys(PROFILES, PROFILES["text_encoder"]))
    world.on("INetworkDefinition.num_inputs", lambda network: 1)
    world.on("ITensor.name", lambda tensor: "input_ids")
    world.on(
        "Builder.build_serialized_network",
        lambda builder, network, config: world.new("IHostMemory", b"built"),
    )
    build(repository)
    assert _plans(repository) == [
        f"{model}/1/model.plan{end}" for model in sorted(PROFILES) for end in ("", ".json")
    ]
    for model in PROFILES:
        check_manifest(repository / model / "1" / "model.plan", tensorrt=bindings.version)
    assert (repository / "timing.cache").exists()
    assert Path(world.called("OnnxParser.parse_from_file")[0]["model"]).name == "model.onnx"
