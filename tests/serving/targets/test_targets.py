"""Facts about every target, and the rule that only `targets/` compares their names."""

import ast
from pathlib import Path

import pytest
from vireo_client.errors import ExportError
from vireo_client.repository import MODELS
from vireo_export.onnx.optimise import _FUSIONS
from vireo_export.precision import PRECISIONS
from vireo_serving.configs.triton_config import ServingOptions
from vireo_serving.targets import TARGETS, Cpu, OnnxRuntime, TensorRT, get_target

ROOT = Path(__file__).parents[3]
SOURCES = [
    path
    for folder in ("model_repository", "export")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "targets" not in path.relative_to(ROOT).parts
]


def _comparisons(code):
    """Comparisons and patterns that hold a target's name."""
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Compare | ast.MatchValue):
            continue
        names = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
        # Of other things that are called so: a module that cannot be imported, a Triton backend.
        others = ("error.name", "config.backend")
        if names & set(TARGETS) and not ast.unparse(node).startswith(others):
            yield ast.unparse(node)


def test_the_rule_finds_comparisons():
    code = """
if target == "cpu" or how.target.name != 'tensorrt' or target in ("cpu", "gpu"): pass
match target:
    case "onnxruntime": pass
"""
    assert len(list(_comparisons(code))) == 4


def test_only_the_targets_modules_compare_their_names():
    assert len(SOURCES) > 60
    comparisons = {
        str(path.relative_to(ROOT)): list(_comparisons(path.read_text("utf-8"))) for path in SOURCES
    }
    assert {path: lines for path, lines in comparisons.items() if lines} == {}


def test_targets_are_found_by_name():
    assert list(TARGETS) == ["cpu", "onnxruntime", "tensorrt"]
    assert get_target("tensorrt") is TensorRT
    with pytest.raises(ExportError, match="no target 'openvino'; there are cpu, onnxruntime"):
        get_target("openvino")


@pytest.mark.parametrize("target", TARGETS.values())
def test_facts_use_names_that_exist(bundle, target):
    assert set(target.precisions) <= set(PRECISIONS)
    assert target.unwanted_fusions <= set(_FUSIONS)
    configs = target().configs(bundle.config, ServingOptions())
    assert list(configs)[:2] == list(MODELS)
    assert {target.text_preprocessor, target.image_preprocessor} <= set(configs)
    names = list(configs)
    for config in configs.values():
        for step in config.ensemble_scheduling.step:
            assert names.index(step.model_name) < names.index(config.name)


def test_precisions_differ():
    assert Cpu.precisions[0] == OnnxRuntime.precisions[0] == "fp32"
    assert TensorRT.precisions[0] == "fp16"
    assert "int8" not in TensorRT.precisions


@pytest.mark.parametrize(
    ("target", "options"),
    [
        (Cpu, {"device": "gpu"}),
        (Cpu, {"gpus": (0,)}),
        (Cpu, {"dry_run": True}),
        (OnnxRuntime, {"cuda_graphs": False}),
        (OnnxRuntime, {"dry_run": True}),
        (TensorRT, {"device": "gpu"}),
        (TensorRT, {"ort_tensorrt_cache": "/plans"}),
    ],
)
def test_options_of_another_target_cannot_be_passed(target, options):
    with pytest.raises(TypeError, match=next(iter(options))):
        target(**options)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (OnnxRuntime, {"device": "tpu"}, "--device is 'tpu'; it must be cpu or gpu"),
        (OnnxRuntime, {"device": "gpu", "gpus": (0, -1)}, r"--gpu is given \(0, -1\)"),
        (OnnxRuntime, {"gpus": (0,)}, "--gpu is for --device gpu"),
        (OnnxRuntime, {"ort_tensorrt_cache": "/plans"}, "--ort-tensorrt-cache is for --device gpu"),
        (TensorRT, {"gpus": (-1,)}, "--gpu is given"),
        (TensorRT, {"hardware_compatibility": "all"}, "--hardware-compatibility is 'all'"),
    ],
)
def test_options_out_of_range_are_refused(target, options, message):
    with pytest.raises(ExportError, match=message):
        target(**options)


def test_only_tensorrt_builds_plans():
    assert Cpu().plan_build() is None
    assert OnnxRuntime(device="gpu", ort_tensorrt_cache="/plans").plan_build() is None
    here = TensorRT(workspace_mb=2, builder_level=5, version_compatible=True).plan_build()
    assert here.here
    assert here.options.workspace_bytes == 2 << 20
    assert here.options.optimization_level == 5
    assert here.options.hardware_compatibility == "none"
    assert here.options.version_compatible
    assert not TensorRT(dry_run=True).plan_build().here
    assert TensorRT().plan_build().options.workspace_bytes is None
