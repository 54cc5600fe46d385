import pytest
from vireo_client.errors import ExportError
from vireo_serving.plans.options import BuildOptions
from vireo_serving.plans.profiles import Profile
from vireo_serving.targets.onnxruntime import tensorrt_provider

BUCKETS = [Profile("input_ids", (1, n), (8, n), (64, n)) for n in (16, 32, 64)]

HASH = "0123456789abcdef" * 4

# Keys that triton-inference-server/onnxruntime_backend takes (src/onnxruntime.cc); it refuses a
# model with any other.
KNOWN = {
    "precision_mode", "max_workspace_size_bytes", "trt_max_partition_iterations",
    "trt_min_subgraph_size", "int8_calibration_table_name", "int8_use_native_calibration_table",
    "trt_dla_enable", "trt_dla_core", "trt_engine_cache_enable", "trt_engine_cache_path",
    "trt_engine_cache_prefix", "trt_dump_subgraphs", "trt_force_sequential_engine_build",
    "trt_context_memory_sharing_enable", "trt_layer_norm_fp32_fallback", "trt_timing_cache_enable",
    "trt_timing_cache_path", "trt_force_timing_cache", "trt_detailed_build_log",
    "trt_build_heuristics_enable", "trt_sparsity_enable", "trt_builder_optimization_level",
    "trt_auxiliary_streams", "trt_tactic_sources", "trt_extra_plugin_lib_paths",
    "trt_profile_min_shapes", "trt_profile_max_shapes", "trt_profile_opt_shapes",
    "trt_cuda_graph_enable", "trt_dump_ep_context_model", "trt_ep_context_file_path",
    "trt_ep_context_embed_mode",
}  # fmt: skip


def _parameters(policy):
    (accelerator,) = policy.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    return dict(accelerator.parameters)


def test_one_profile_spans_all_buckets_and_caches_are_stored():
    assert _parameters(tensorrt_provider(BUCKETS, HASH, "/cache/text/1")) == {
        "precision_mode": "FP32",  # no flag: the graph's own types, FP16 among them
        "trt_layer_norm_fp32_fallback": "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": "/cache/text/1",
        "trt_engine_cache_prefix": "0123456789abcdef",
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": "/cache/text/1",
        "trt_builder_optimization_level": "3",
        "trt_profile_min_shapes": "input_ids:1x16",
        "trt_profile_opt_shapes": "input_ids:8x64",
        "trt_profile_max_shapes": "input_ids:64x64",
    }


def test_a_graph_in_fp32_may_be_run_in_fp16_except_for_layer_norm():
    parameters = _parameters(tensorrt_provider(BUCKETS, HASH, "/cache", graph="fp32"))
    assert parameters["precision_mode"] == "FP16"
    assert parameters["trt_layer_norm_fp32_fallback"] == "1"


def test_every_key_is_one_that_the_backend_knows():
    options = BuildOptions(workspace_bytes=1 << 30, optimization_level=5)
    parameters = _parameters(tensorrt_provider(BUCKETS, HASH, "/cache", options))
    assert set(parameters) <= KNOWN
    assert parameters["max_workspace_size_bytes"] == "1073741824"
    assert parameters["trt_builder_optimization_level"] == "5"


def test_a_newly_trained_model_never_gets_the_plan_of_the_old_one():
    """ONNX Runtime gives both plans the same name."""
    first, second = (tensorrt_provider(BUCKETS, h * 64, "/cache") for h in "ab")
    assert (
        _parameters(first)["trt_engine_cache_prefix"]
        != _parameters(second)["trt_engine_cache_prefix"]
    )


def test_a_cache_in_a_relative_folder_is_refused():
    with pytest.raises(ExportError, match="give an absolute path"):
        tensorrt_provider(BUCKETS, HASH, "cache")
