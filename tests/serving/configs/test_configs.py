"""The configurations that export writes, against Triton's own schema."""

import struct

import numpy as np
import pytest
from google.protobuf import text_format
from support.repositories import publish_version
from tritonclient.grpc import model_config_pb2 as pb
from vireo_client.bundle import Bundle
from vireo_client.embedder import Embedder
from vireo_client.errors import ExportError
from vireo_client.images import load_pixels
from vireo_client.repository import ALL_MODELS, BULK_PRIORITY, MODELS, QUERY_PRIORITY
from vireo_client.towers.onnx import OnnxTowers
from vireo_serving.configs.triton_config import (
    CONFIG_FILE,
    QueueLimits,
    ServingOptions,
    read_config,
    write_config,
)
from vireo_serving.targets import TARGETS, Cpu, OnnxRuntime, TensorRT

PREPROCESSING = ("preprocess_text", "preprocess_image")
PYTHON_MODELS = (*PREPROCESSING, "mask_rows")
"""Models beside the towers, on the targets whose towers take ids and pixels alone."""
ENSEMBLES = ("embed_text", "embed_image")
GPU = pb.ModelInstanceGroup.KIND_GPU


def _configs(repository: Bundle) -> dict[str, pb.ModelConfig]:
    return {
        path.parent.name: text_format.Parse(path.read_text(), pb.ModelConfig())
        for path in repository.folder.glob(f"*/{CONFIG_FILE}")
    }


def _models(target: str) -> tuple[str, ...]:
    return tuple(m for m in ALL_MODELS if target != "cpu" or m != "mask_rows")


def test_every_model_is_configured_for_the_version_in_use(bundle, repository):
    configs = _configs(repository)
    assert set(configs) == set(_models("cpu"))
    for model, config in configs.items():
        assert config.name == model
        assert config.max_batch_size == 64
        assert list(config.version_policy.specific.versions) == [1]
        assert config.parameters["bundle_id"].string_value == bundle.bundle_id
        assert config.HasField("dynamic_batching") == (model in MODELS)
        assert {step.model_version for step in config.ensemble_scheduling.step} <= {1}
        copy = repository.folder / model / "1" / CONFIG_FILE
        assert read_config(copy) == config


@pytest.mark.parametrize(
    ("target", "engines"), [("cpu", MODELS), ("onnxruntime", (*MODELS, *PYTHON_MODELS))]
)
def test_queries_come_before_bulk_work_and_queues_are_bounded(bundle, target, engines):
    options = ServingOptions(queue_limits=QueueLimits(7, timeout_ms=200, bulk_timeout_ms=900))
    configs = TARGETS[target]().configs(bundle.config, options)
    for model in engines:
        batching = configs[model].dynamic_batching
        assert batching.priority_levels == BULK_PRIORITY
        assert batching.default_priority_level == QUERY_PRIORITY
        query, bulk = batching.default_queue_policy, batching.priority_queue_policy[BULK_PRIORITY]
        assert (query.default_timeout_microseconds, bulk.default_timeout_microseconds) == (
            200_000,
            900_000,
        )
        for policy in (query, bulk):
            assert policy.timeout_action == pb.ModelQueuePolicy.REJECT
            assert policy.allow_timeout_override
            assert policy.max_queue_size == 7


@pytest.mark.parametrize("target", TARGETS)
def test_only_embeddings_of_texts_are_cached(bundle, target):
    """By Triton only where no model refuses a request: it would cache the refusal."""
    for enabled in (True, False):
        options = ServingOptions(response_cache=enabled)
        configs = TARGETS[target]().configs(bundle.config, options)
        cached = {model for model, config in configs.items() if config.response_cache.enable}
        assert cached == ({"text_encoder"} if enabled and target != "cpu" else set())
        if target == "cpu":
            size = configs["text_encoder"].parameters["cache_mib"].string_value
            assert size == ("64" if enabled else "0")


def test_serving_options_reach_the_configuration(bundle):
    options = ServingOptions(max_batch_size=1, max_queue_delay_us=7, threads=3, instances=2)
    configs = Cpu().configs(bundle.config, options, version=5)
    for model, config in configs.items():
        assert config.max_batch_size == 1
        assert list(config.version_policy.specific.versions) == [5]
        if model not in MODELS:
            assert {step.model_version for step in config.ensemble_scheduling.step} == {5}
        else:
            assert config.dynamic_batching.max_queue_delay_microseconds == 7
    for tower in MODELS:
        assert configs[tower].parameters["threads"].string_value == "3"
        assert configs[tower].instance_group[0].count == 2


@pytest.mark.parametrize(
    "wrong",
    [{"max_batch_size": 0}, {"instances": 0}, {"threads": -1}, {"max_queue_delay_us": -1}],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ExportError, match=next(iter(wrong))):
        ServingOptions(**wrong)


@pytest.mark.parametrize("name", ["size", "timeout_ms", "bulk_timeout_ms"])
def test_queue_limits_out_of_range_are_refused(name):
    with pytest.raises(ExportError, match=name):
        QueueLimits(**{name: -1})


@pytest.mark.parametrize("target", TARGETS)
def test_without_limits_triton_may_prepare_the_next_batch(bundle, target):
    """Any priority, timeout or length would forbid it; see `ServingOptions.queue_limits`."""
    configs = TARGETS[target]().configs(bundle.config, ServingOptions())
    engines = {name for name, config in configs.items() if config.platform != "ensemble"}
    assert engines >= set(MODELS)
    for model in engines:
        assert configs[model].HasField("dynamic_batching")
        assert configs[model].dynamic_batching == pb.ModelDynamicBatching()


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_reads_back_and_has_its_engine(bundle, test_records, tmp_path, target):
    folder = publish_version(bundle, tmp_path / "r", TARGETS[target](), records=test_records)
    backend = "python" if target == "cpu" else target
    engine = "model.plan" if target == "tensorrt" else "model.onnx"
    assert {path.parent.name for path in folder.glob("*/1")} == set(_models(target))
    for model in _models(target):
        config = read_config(folder / model / CONFIG_FILE)
        if model in MODELS:
            assert config.backend == backend
            assert (folder / model / "1" / engine).read_text() == model
            assert (folder / model / "1" / "model.py").exists() == (target == "cpu")
            assert config.instance_group[0].kind == (
                GPU if target == "tensorrt" else pb.ModelInstanceGroup.KIND_CPU
            )
        elif model in PYTHON_MODELS and target != "cpu":
            assert config.backend == "python"
            assert (folder / model / "1" / "model.py").is_file()
        else:
            assert config.platform == "ensemble"
    # The models that preprocess have the files for it.
    text, image = MODELS if target == "cpu" else PREPROCESSING
    for model, names in ((text, {"bundle.json", "tokenizer.json"}), (image, {"bundle.json"})):
        assert names <= {path.name for path in (folder / model / "1").iterdir()}
    # Files beside an engine go with it; external data keeps the name that the graph has.
    beside = "model.plan.json" if target == "tensorrt" else "text_encoder.onnx.data"
    assert (folder / "text_encoder" / "1" / beside).is_file()


def test_the_onnxruntime_target_runs_on_gpus_or_on_set_threads(bundle):
    gpu = OnnxRuntime(device="gpu", gpus=(1, 3)).configs(bundle.config, ServingOptions())
    cpu = OnnxRuntime().configs(bundle.config, ServingOptions(threads=6))
    for tower in MODELS:
        assert gpu[tower].instance_group[0].kind == GPU
        assert list(gpu[tower].instance_group[0].gpus) == [1, 3]
        assert cpu[tower].parameters["intra_op_thread_count"].string_value == "6"


def test_the_tensorrt_target_uses_a_profile_a_bucket_and_cuda_graphs(bundle):
    buckets = bundle.config.text.buckets
    on = TensorRT().configs(bundle.config, ServingOptions(max_batch_size=4))
    assert list(on["text_encoder"].instance_group[0].profile) == [
        str(number) for number in range(len(buckets))
    ]
    graphs = {
        (graph.batch_size, *graph.input["input_ids"].dim)
        for graph in on["text_encoder"].optimization.cuda.graph_spec
    }
    assert graphs == {(batch, bucket) for batch in (1, 2, 4) for bucket in buckets}
    off = TensorRT(cuda_graphs=False).configs(bundle.config, ServingOptions())
    assert not any(config.HasField("optimization") for config in off.values())


def test_onnxruntime_can_run_by_tensorrt_with_a_cache_of_each_version(bundle):
    target = OnnxRuntime(device="gpu", ort_tensorrt_cache="/plans")
    configs = target.configs(bundle.config, ServingOptions(), version=3)
    side = bundle.config.image.size
    for tower in MODELS:
        (gpu,) = configs[tower].optimization.execution_accelerators.gpu_execution_accelerator
        assert gpu.name == "tensorrt"
        folder = f"/plans/{bundle.bundle_id}/{tower}/3"
        assert gpu.parameters["trt_engine_cache_path"] == folder
        assert tuple(configs[tower].input[0].dims) in {(-1,), (3, side, side)}


def test_a_configuration_outside_the_schema_is_refused(tmp_path, bundle):
    path = tmp_path / CONFIG_FILE
    path.write_text('name: "x"\nmax_batch: 3\n')
    with pytest.raises(ExportError, match="not a Triton model configuration"):
        read_config(path)
    config = Cpu().configs(bundle.config, ServingOptions())["text_encoder"]
    write_config(config, tmp_path)
    assert read_config(path) == config


def _sample(repository, model, name):
    (sample,) = [w for w in _configs(repository)[model].model_warmup if w.name == name]
    ((_, value),) = sample.inputs.items()
    return (repository.folder / model / "warmup" / value.input_data_file).read_bytes(), value


def test_warm_up_of_every_bucket_has_a_real_text(repository, test_records):
    buckets = repository.config.text.buckets
    configs = _configs(repository)
    with Embedder(repository, OnnxTowers.from_repository(repository)) as embedder:
        for bucket in buckets:
            content, value = _sample(repository, "text_encoder", f"bucket-{bucket}-batch-1")
            assert list(value.dims) == [1]
            (length,) = struct.unpack("<I", content[:4])
            assert length == len(content) - 4
            text = content[4:].decode()
            assert text.startswith(test_records[0].captions[0].split()[0])
            ((_, input_ids),) = embedder.text_path.encode([text])
            assert input_ids.shape == (1, bucket)
    names = {(w.name, w.batch_size) for w in configs["text_encoder"].model_warmup}
    assert names == {(f"bucket-{b}-batch-{n}", n) for b in buckets for n in (1, 8)}


def test_warm_up_of_images_has_a_real_image(repository, bundle, test_records, tmp_path):
    file = test_records[0].path.read_bytes()
    encoded, _ = _sample(repository, "image_encoder", "picture-batch-8")
    assert encoded[4:] == file
    other = Bundle(publish_version(bundle, tmp_path / "r", OnnxRuntime(), records=test_records))
    encoded, _ = _sample(other, "preprocess_image", "picture-batch-8")
    assert encoded[4:] == file
    pixels, value = _sample(other, "image_encoder", "picture-batch-8")
    expected = load_pixels(file, repository.config.image)
    assert np.array_equal(np.frombuffer(pixels, np.uint8).reshape(value.dims), expected)


def test_a_gpu_is_warmed_up_at_its_largest_batch(bundle, tmp_path):
    folder = publish_version(bundle, tmp_path / "r", TensorRT(), ServingOptions(max_batch_size=32))
    for model in ("text_encoder", "preprocess_text", "image_encoder", "preprocess_image"):
        batches = {w.batch_size for w in read_config(folder / model / CONFIG_FILE).model_warmup}
        assert batches == {1, 32}
