"""Manifests, and the machine they are held against: a real program and a real library answer."""

import json
import os
import subprocess
import sys

import pytest
from support.tensorrt_bindings import compile_library
from vireo_client.errors import EngineError
from vireo_serving.plans.manifest import (
    adopt_plan,
    check_manifest,
    check_plans,
    manifest_file,
    new_plan_file,
    read_manifest,
)
from vireo_serving.plans.options import BuildOptions
from vireo_serving.plans.present import Gpu, present_gpu, present_tensorrt
from vireo_serving.plans.profiles import Profile
from vireo_serving.plans.recipe import make_recipe

L4 = Gpu(name="NVIDIA L4", compute_capability="8.9")
RTX = Gpu(name="NVIDIA GeForce RTX 4090", compute_capability="8.9")
A100 = Gpu(name="NVIDIA A100-SXM4-40GB", compute_capability="8.0")
T4 = Gpu(name="Tesla T4", compute_capability="7.5")
B200 = Gpu(name="NVIDIA B200", compute_capability="10.0")


@pytest.fixture
def built(tmp_path):
    """A plan that was built on an L4."""

    def build(version="11.4.0.106", **options):
        folder = tmp_path / "repository" / "text_encoder" / "1"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(b"a graph")
        plan = folder / "model.plan"
        recipe = make_recipe(
            folder / "model.onnx", plan, [Profile("input_ids", (1, 16), (8, 16), (64, 16))],
            BuildOptions(**options),
        )  # fmt: skip
        new_plan_file(plan).write_bytes(b"a plan")
        adopt_plan(plan, recipe, gpu=L4, tensorrt=version)
        return plan

    return build


def test_a_plan_is_taken_where_it_was_built(built):
    plan = built()
    assert check_manifest(plan, gpu=L4, tensorrt="11.4.0.106").gpu == L4
    content = json.loads(manifest_file(plan).read_text())
    assert content["gpu"] == {"name": "NVIDIA L4", "compute_capability": "8.9"}
    assert content["tensorrt"] == "11.4.0.106"
    assert content["onnx"] == "model.onnx"
    assert content["profiles"] == [
        {"input": "input_ids", "min": [1, 16], "opt": [8, 16], "max": [64, 16]}
    ]
    assert manifest_file(plan).stat().st_mode & 0o777 == 0o644
    assert not new_plan_file(plan).exists()


@pytest.mark.parametrize(
    ("compatibility", "gpu", "runs"),
    [
        ("none", RTX, False),  # of the same architecture, and slower or wrong all the same
        ("none", A100, False),
        ("same_compute_capability", RTX, True),
        ("same_compute_capability", A100, False),
        ("ampere_plus", RTX, True),
        ("ampere_plus", A100, True),
        ("ampere_plus", B200, True),  # 10.0 is more than 8.9
        ("ampere_plus", T4, False),
    ],
)
def test_another_gpu_is_refused_unless_the_plan_was_built_for_it(built, compatibility, gpu, runs):
    plan = built(hardware_compatibility=compatibility)
    if runs:
        check_manifest(plan, gpu=gpu, tensorrt="11.4.0.106")
        return
    with pytest.raises(EngineError) as caught:
        check_manifest(plan, gpu=gpu, tensorrt="11.4.0.106")
    for part in (str(plan), "NVIDIA L4", gpu.name, "vireo export SOURCE --target tensorrt"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("built_with", "compatible", "present", "loads"),
    [
        ("11.4.0.106", False, "11.4.0.107", False),
        ("11.4.0.106", False, "11.5.0.1", False),
        ("11.4.0.106", True, "11.5.0.1", True),
        ("11.4.0.106", True, "11.10.0.1", True),
        ("11.4.0.106", True, "11.3.0.1", False),
        ("10.9.0.34", True, "11.0.0.1", True),
        ("10.9.0.34", False, "11.0.0.1", False),
        ("11.4.0.106", True, "10.9.0.34", False),
        ("10.9.0.34", True, "12.0.0.1", False),
    ],
)
def test_another_version_is_refused_unless_the_plan_was_built_for_it(
    built, built_with, compatible, present, loads
):
    plan = built(built_with, version_compatible=compatible)
    if loads:
        check_manifest(plan, gpu=L4, tensorrt=present)
        return
    with pytest.raises(EngineError, match=f"built with TensorRT {built_with}.*this is {present}"):
        check_manifest(plan, gpu=L4, tensorrt=present)


def test_a_plan_that_is_not_the_one_described_is_refused(built):
    plan = built()
    plan.write_bytes(b"half a pl")
    with pytest.raises(EngineError, match="not the plan that its manifest describes"):
        check_manifest(plan, gpu=L4, tensorrt="11.4.0.106")
    plan.unlink()
    with pytest.raises(EngineError, match="manifest is there, but no plan"):
        check_manifest(plan, gpu=L4, tensorrt="11.4.0.106")


def test_a_plan_without_manifest_is_refused(built):
    plan = built()
    manifest_file(plan).unlink()
    with pytest.raises(EngineError, match=r"has no manifest \(model\.plan\.json\).*--target"):
        check_manifest(plan, gpu=L4, tensorrt="11.4.0.106")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.update(schema_version=2),
        lambda content: content.pop("gpu"),
        lambda content: content.update(tensorrt="new"),
        lambda content: content.update(plan_sha256="short"),
        lambda content: content["profiles"][0].update(min=[9, 16]),
        lambda content: content.update(profiles=[]),
    ],
)
def test_a_damaged_manifest_is_refused(built, damage):
    plan = built()
    content = json.loads(manifest_file(plan).read_text())
    damage(content)
    manifest_file(plan).write_text(json.dumps(content))
    with pytest.raises(EngineError, match="not a plan's manifest"):
        read_manifest(plan)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[]"])
def test_a_manifest_that_is_no_json_is_refused(built, text):
    plan = built()
    manifest_file(plan).write_bytes(text)
    with pytest.raises(EngineError, match="not a plan's manifest"):
        read_manifest(plan)


def test_a_plan_of_another_platform_is_refused(built):
    plan = built()
    text = manifest_file(plan).read_text()
    manifest_file(plan).write_text(text.replace("linux-", "windows-"))
    with pytest.raises(EngineError, match="built on windows-"):
        check_manifest(plan, gpu=L4, tensorrt="11.4.0.106")


def test_a_repository_without_plans_needs_no_gpu(tmp_path, program):
    program("nvidia-smi", "exit 9")
    assert check_plans(tmp_path) == []


@pytest.mark.usefixtures("l4", "world", "no_tensorrt")
def test_all_plans_of_a_repository_or_of_a_version_are_checked(built, bindings):
    plan = built(bindings.version)
    repository = plan.parents[2]
    assert len(check_plans(repository)) == 1
    other = repository / "text_encoder" / "2"
    other.mkdir()
    (other / "model.plan").write_bytes(b"of unknown origin")
    with pytest.raises(EngineError, match=r"2/model\.plan: has no manifest"):
        check_plans(repository)
    assert len(check_plans(repository, version=1)) == 1


class TestGpu:
    """The GPU, by a real program named nvidia-smi."""

    ROWS = (
        "0, GPU-aaaa-1111, NVIDIA L4, 8.9",
        "1, GPU-bbbb-2222, NVIDIA A100-SXM4-40GB, 8.0",
    )

    def test_the_only_kind_is_the_one(self, nvidia_smi):
        nvidia_smi(self.ROWS[0], self.ROWS[0].replace("0, GPU-aaaa", "1, GPU-cccc"))
        assert present_gpu() == L4
        assert str(L4) == "NVIDIA L4 (compute capability 8.9)"

    @pytest.mark.parametrize(
        ("environment", "gpu"),
        [
            ({"CUDA_VISIBLE_DEVICES": "GPU-bbbb"}, A100),
            ({"CUDA_VISIBLE_DEVICES": "GPU-aaaa-1111,GPU-bbbb-2222"}, L4),
            ({"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, A100),
        ],
    )
    def test_of_several_kinds_the_chosen_one_counts(
        self, nvidia_smi, monkeypatch, environment, gpu
    ):
        nvidia_smi(*self.ROWS)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert present_gpu() == gpu

    @pytest.mark.parametrize("visible", [None, "1", "GPU-dddd", ""])
    def test_of_several_kinds_none_is_guessed(self, nvidia_smi, monkeypatch, visible):
        nvidia_smi(*self.ROWS)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        with pytest.raises(EngineError, match=r"several kinds of GPU.*set CUDA_VISIBLE_DEVICES"):
            present_gpu()

    @pytest.mark.parametrize(
        ("script", "said"),
        [
            ("echo 'No devices were found'; exit 6", "No devices were found"),
            ("exit 0", "said: nothing"),
            ("echo 'Field \"compute_cap\" is not a valid field'; exit 2", "not a valid field"),
        ],
    )
    def test_a_driver_that_does_not_answer_is_quoted(self, program, script, said):
        program("nvidia-smi", script)
        with pytest.raises(EngineError, match=f"no GPU found.*{said}"):
            present_gpu()

    def test_a_machine_without_driver_says_so(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(EngineError, match="nvidia-smi is not on PATH"):
            present_gpu()


class TestTensorrt:
    """The TensorRT version, by a real library of four functions."""

    ASK = "from vireo_serving.plans.present import present_tensorrt; print(present_tensorrt())"

    def _ask(self, folder):
        environment = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
        return subprocess.run(
            [sys.executable, "-c", self.ASK], env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    def _library(self, folder, *numbers):
        parts = zip(("Major", "Minor", "Patch", "Build"), numbers, strict=True)
        source = "\n".join(
            f"int getInferLib{part}Version(void) {{ return {n}; }}" for part, n in parts
        )
        compile_library(folder, f"nvinfer.so.{numbers[0]}", source)

    def test_the_library_that_the_loader_finds_comes_first(self, tmp_path):
        self._library(tmp_path, 10, 9, 0, 34)
        assert self._ask(tmp_path).stdout == "10.9.0.34\n"
        self._library(tmp_path, 11, 4, 0, 106)  # the newer of two
        assert self._ask(tmp_path).stdout == "11.4.0.106\n"

    def test_without_library_or_package_it_says_so(self, tmp_path):
        assert (
            "no TensorRT found: the loader knows no libnvinfer.so.11" in self._ask(tmp_path).stderr
        )

    def test_the_python_package_comes_second(self, world, bindings):
        assert present_tensorrt() == bindings.version
