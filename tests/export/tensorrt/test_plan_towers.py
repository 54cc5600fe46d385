"""Running plans against the stand-in: memory is the CPU's, and each run's result is scripted."""

import ctypes
import sys

import numpy as np
import pytest
from vireo_client.errors import EngineError
from vireo_serving.plans.manifest import adopt_plan, new_plan_file
from vireo_serving.plans.options import BuildOptions
from vireo_serving.plans.present import present_gpu
from vireo_serving.plans.profiles import Profile
from vireo_serving.plans.recipe import make_recipe

TEXT = [Profile("input_ids", (1, n), (4, n), (16, n)) for n in (16, 32)]
IMAGE = [Profile("pixels", (1, 3, 8, 8), (4, 3, 8, 8), (12, 3, 8, 8))]


@pytest.fixture
def plans(tmp_path, l4, bindings):
    def write(**options):
        written = []
        for name, profiles in (("text", TEXT), ("image", IMAGE)):
            onnx, plan = tmp_path / f"{name}.onnx", tmp_path / f"{name}.plan"
            onnx.write_bytes(b"a graph")
            new_plan_file(plan).write_bytes(name.encode())
            recipe = make_recipe(onnx, plan, profiles, BuildOptions(**options))
            adopt_plan(plan, recipe, gpu=present_gpu(), tensorrt=bindings.version)
            written.append(plan)
        return written

    return write


@pytest.fixture
def trt(world, monkeypatch):
    """A TensorRT whose plans return, for each row, its sum and the batch size."""
    monkeypatch.delitem(sys.modules, "vireo_export.tensorrt.plan_towers", raising=False)
    shapes, addresses = {}, {}

    def run(context, stream_handle):
        (name,) = (n for n in addresses if n != "embedding")
        kind = ctypes.c_int32 if name == "input_ids" else ctypes.c_uint8
        size = int(np.prod(shapes[name]))
        values = np.array((kind * size).from_address(addresses.pop(name)))
        rows = values.reshape(shapes[name][0], -1).astype(np.float32)
        result = np.stack([rows.sum(1), np.full(len(rows), len(rows), np.float32)], 1)
        data = np.ascontiguousarray(result, np.float32).tobytes()
        ctypes.memmove(addresses["embedding"], data, len(data))
        return True

    def shape_of(context, name):
        dims = world.new("Dims")
        object.__setattr__(dims, "_shape", [list(shapes.values())[-1][0], 2])
        return dims

    def set_shape(context, name, shape):
        shapes.pop(name, None)
        shapes[name] = shape
        return True

    def set_address(context, name, memory):
        addresses[name] = memory
        return True

    world.on("IExecutionContext.set_input_shape", set_shape)
    world.on("IExecutionContext.set_tensor_address", set_address)
    world.on("IExecutionContext.get_tensor_shape", shape_of)
    world.on("IExecutionContext.execute_async_v3", run)
    world.on("Dims.__len__", lambda dims: len(dims._shape))
    world.on("Dims.__getitem__", lambda dims, arg0: dims._shape[arg0])
    return world


def _towers(plans, **options):
    from vireo_export.tensorrt.plan_towers import PlanTowers

    return PlanTowers(*plans(**options), device="cpu")


def test_towers_run_each_batch_with_the_profile_that_has_its_shape(trt, plans):
    towers = _towers(plans)
    assert towers.max_batch_size == 12
    for rows, length, profile in ((3, 16, 0), (2, 32, 1), (16, 16, 0)):
        ids = np.arange(rows * length, dtype=np.int32).reshape(rows, length)
        expected = np.stack([ids.sum(1), np.full(rows, rows)], 1)
        np.testing.assert_array_equal(towers.encode_text(ids), expected)
        chosen = trt.called("IExecutionContext.set_optimization_profile_async")[-1]
        assert chosen == {"profile_index": profile, "stream_handle": 0}
    pixels = np.full((2, 3, 8, 8), 255, np.uint8)
    np.testing.assert_array_equal(towers.encode_image(pixels), [[255 * 192, 2]] * 2)
    loaded = trt.called("Runtime.deserialize_cuda_engine")
    assert [call["serialized_engine"] for call in loaded] == [b"text", b"image"]
    assert trt.called("Runtime.engine_host_code_allowed") == []


def test_rows_that_are_not_contiguous_arrive_unchanged(trt, plans):
    ids = np.arange(2 * 3 * 16, dtype=np.int32).reshape(6, 16)[::2]
    vectors = _towers(plans).encode_text(ids)
    np.testing.assert_array_equal(vectors[:, 0], ids.sum(1))


def test_only_a_version_compatible_plan_may_contain_code(trt, plans):
    _towers(plans, version_compatible=True)
    assert trt.called("Runtime.engine_host_code_allowed") == [{"value": True}] * 2


@pytest.mark.parametrize("shape", [(1, 17), (17, 16), (1, 1, 16)])
def test_a_shape_of_no_profile_is_refused(trt, plans, shape):
    with pytest.raises(EngineError, match=r"text\.plan: no profile of it has the shape"):
        _towers(plans).encode_text(np.zeros(shape, np.int32))


def test_a_foreign_plan_is_refused_before_it_is_loaded(trt, plans, nvidia_smi):
    def foreign():
        written = plans()
        nvidia_smi("0, GPU-ffff, Tesla T4, 7.5")
        return written

    with pytest.raises(EngineError, match="built for NVIDIA L4"):
        _towers(foreign)
    assert trt.called("Runtime.deserialize_cuda_engine") == []


@pytest.mark.parametrize(
    ("name", "answer", "message"),
    [
        ("Runtime.deserialize_cuda_engine", None, "does not load"),
        ("ICudaEngine.create_execution_context", None, "does not fit in the GPU's memory"),
        ("IExecutionContext.set_optimization_profile_async", False, "refuses the shape 1x16"),
        ("IExecutionContext.set_input_shape", False, "refuses the shape 1x16"),
        ("IExecutionContext.set_tensor_address", False, "does not run"),
        ("IExecutionContext.execute_async_v3", False, "does not run"),
    ],
)
def test_each_failure_of_tensorrt_is_reported(trt, plans, name, answer, message):
    trt.on(name, lambda owner, *args, **kwargs: answer)
    with pytest.raises(EngineError, match=rf"text\.plan: {message}"):
        _towers(plans).encode_text(np.zeros((1, 16), np.int32))


def test_no_runtime_means_no_gpu(trt, plans):
    def nothing(runtime, logger):
        logger.log(trt.module.ILogger.Severity.ERROR, "no CUDA-capable device")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    trt.on("Runtime.__init__", nothing)
    with pytest.raises(EngineError, match=r"cannot start TensorRT \(no CUDA-capable device\)"):
        _towers(plans)
