"""Exports to target `tensorrt` without a GPU: the build of plans has its own tests."""

import json
import shutil
import subprocess
import sys

import onnx
import pytest
from vireo_client.errors import EngineError, ExportError, MissingExtraError
from vireo_client.repository import MODELS
from vireo_export.export import EngineOptions, export
from vireo_export.precision import Precisions
from vireo_serving.configs.triton_config import CONFIG_FILE, ServingOptions, read_config
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer
from vireo_serving.targets import TensorRT
from vireo_training.sources import open_source

FP16 = Precisions("fp16", "fp16")


@pytest.fixture(scope="module")
def prepared(bundle, test_records, tmp_path_factory):
    """The folder, the figures and the printed lines of a dry run."""
    folder = tmp_path_factory.mktemp("tensorrt") / "model_repository"
    options = EngineOptions(FP16, TensorRT(dry_run=True))
    serving = ServingOptions(max_batch_size=16)
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        from vireo_export.tensorrt import plans

        patch.setattr(plans, "note", lambda *lines: printed.extend(lines))
        parity = export(open_source(bundle.folder), folder, test_records, serving, options)
    return folder, parity, printed


def test_a_dry_run_publishes_checked_graphs_of_standard_operators(prepared):
    folder, parity, _ = prepared
    assert parity.precisions == FP16
    assert min(parity.text.min_cosine, parity.image.min_cosine) >= 0.999
    for model in MODELS:
        graph = onnx.load(folder / model / "1" / "model.onnx")
        assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}
        assert onnx.TensorProto.FLOAT16 in {i.data_type for i in graph.graph.initializer}
        assert not (folder / model / "1" / "model.py").exists()


def test_its_configurations_name_a_profile_for_each_bucket(prepared, bundle):
    folder, _, _ = prepared
    text = read_config(folder / "text_encoder" / CONFIG_FILE)
    assert text.backend == "tensorrt"
    assert text.default_model_filename == "model.plan"
    assert len(text.instance_group[0].profile) == len(bundle.config.text.buckets)
    assert text.optimization.cuda.graphs


def test_it_says_how_to_build_elsewhere(prepared, bundle):
    folder, _, printed = prepared
    lines = [line for line in printed if line.startswith("trtexec ")]
    assert len(lines) == len(MODELS)
    for line, model in zip(lines, MODELS, strict=True):
        assert f"--onnx={model}/1/model.onnx" in line
        assert "--stronglyTyped" in line
        recipe = json.loads((folder / model / "1" / "model.recipe.json").read_text())
        assert recipe["precision"] == "fp16"
        assert recipe["profiles"][0]["max"][0] == 16
    assert lines[0].count("--profile=") == len(bundle.config.text.buckets)
    script = folder / "build.sh"
    assert script.stat().st_mode & 0o111
    subprocess.run(["sh", "-n", script], check=True)
    assert printed[-1].startswith("nothing was built")


def test_without_tensorrt_it_is_refused_before_any_work(bundle, test_records, tmp_path):
    if "tensorrt" in sys.modules:
        pytest.skip("TensorRT is there")
    options = EngineOptions(FP16, TensorRT())
    with pytest.raises(MissingExtraError, match=r"tensorrt.*--dry-run"):
        export(open_source(bundle.folder), tmp_path / "r", test_records, None, options)
    assert list(tmp_path.iterdir()) == []


def test_int8_is_refused_before_any_work(bundle, test_records, tmp_path):
    options = EngineOptions(Precisions("int8", "fp16"), TensorRT(dry_run=True))
    message = "int8: these engines are made for CPUs; for target tensorrt choose fp16 or fp32"
    with pytest.raises(ExportError, match=message):
        export(open_source(bundle.folder), tmp_path / "r", test_records, None, options)
    assert list(tmp_path.iterdir()) == []


def test_serving_before_the_plans_are_built_is_refused(prepared):
    folder, _, _ = prepared
    with pytest.raises(EngineError, match=r"no plan has been built yet; run build\.sh"):
        TritonServer(folder, ports=Ports(0, 0, 0))


def test_a_plan_without_a_manifest_is_not_served(prepared, tmp_path):
    folder = shutil.copytree(prepared[0], tmp_path / "r")
    for model in MODELS:
        (folder / model / "1" / "model.plan").write_bytes(b"a plan from elsewhere")
    with pytest.raises(EngineError):
        TritonServer(folder, ports=Ports(0, 0, 0))
