"""A build against the stand-in for each version (support/tensorrt_standin.py says what it checks).

TensorRT's behaviour is scripted here. These tests show that our code calls it with the right
arguments in the right order, and that it handles each failure.
"""

import enum
import logging
import resource
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.tensorrt_standin import RefusedError
from vireo_client.bundle import file_sha256
from vireo_client.errors import EngineError, ExportError, MissingExtraError
from vireo_export.precision import Precisions
from vireo_export.tensorrt.builder import build_plan
from vireo_export.tensorrt.plans import build_plans
from vireo_serving.plans.manifest import check_manifest, manifest_file, read_manifest
from vireo_serving.plans.options import BuildOptions
from vireo_serving.plans.profiles import Profile

PLAN = b"a plan" * 1000
TEXT = tuple(Profile("input_ids", (1, n), (4, n), (16, n)) for n in (16, 32))

pytestmark = pytest.mark.usefixtures("l4")


@pytest.fixture
def onnx(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"a graph")
    return path


@pytest.fixture
def plan(tmp_path):
    return tmp_path / "model.plan"


@pytest.fixture
def trt(world):
    """A TensorRT that builds: two phases of three steps, until the monitor ends it."""
    monitors, attached = [], []

    def build(builder, network, config):
        for phase, parent in (("build", None), ("tactics", "build")):
            monitors[-1].phase_start(phase, parent, 3)
        for step in range(3):
            if not monitors[-1].step_complete("tactics", step):
                return None
        for phase in ("tactics", "build"):
            monitors[-1].phase_finish(phase)
        return world.new("IHostMemory", PLAN)

    def attach(config, cache, ignore_mismatch):
        attached.append(cache)
        return True

    world.on("Dims.__init__", lambda dims, shape: object.__setattr__(dims, "_shape", shape))
    world.on("INetworkDefinition.num_inputs", lambda network: 1)
    world.on("ITensor.name", lambda tensor: "input_ids")
    world.on("Builder.build_serialized_network", build)
    world.on("IBuilderConfig.set_timing_cache", attach)
    world.on("ITimingCache.serialize", lambda cache: world.new("IHostMemory", b"timings"))
    world.monitors, world.build = monitors, build
    original = world.set

    def keep_monitor(owner, kind, member, value):
        original(owner, kind, member, value)
        if member == "progress_monitor":
            monitors.append(value)

    world.set = keep_monitor
    return world


def _files(folder):
    return sorted(p.name for p in folder.iterdir() if p.name != "bin")


def test_a_build_passes_all_options_on_and_writes_plan_and_manifest(
    trt, onnx, plan, bindings, tmp_path
):
    options = BuildOptions(
        workspace_bytes=2 << 30, optimization_level=4, version_compatible=True,
        hardware_compatibility="ampere_plus",
    )  # fmt: skip
    cache = tmp_path / "timing.cache"
    manifest = build_plan(onnx, plan, TEXT, options, timing_cache=cache)

    # 10 needs the flag for strongly typed networks; in 11 all networks are strongly typed.
    assert trt.called("Builder.create_network") == [{"flags": {10: 2, 11: 0}[bindings.major]}]
    assert trt.called("OnnxParser.parse_from_file") == [{"model": str(onnx)}]
    shapes = [
        [call["input"], *(tuple(call[place]._shape) for place in ("min", "opt", "max"))]
        for call in trt.called("IOptimizationProfile.set_shape")
    ]
    assert shapes == [[p.input, p.min, p.opt, p.max] for p in TEXT]
    assert len(trt.called("IBuilderConfig.add_optimization_profile")) == 2
    (level,) = trt.called("IBuilderConfig.builder_optimization_level")
    assert level == {"value": 4}
    (pool,) = trt.called("IBuilderConfig.set_memory_pool_limit")
    assert (pool["pool"].name, pool["pool_size"]) == ("WORKSPACE", 2 << 30)
    (compatible,) = trt.called("IBuilderConfig.hardware_compatibility_level")
    assert compatible["value"].name == "AMPERE_PLUS"
    # Refit and everything else stay off.
    assert [call["flag"].name for call in trt.called("IBuilderConfig.set_flag")] == [
        "VERSION_COMPATIBLE"
    ]
    names = trt.names()
    assert names.index("OnnxParser.parse_from_file") < names.index("IOptimizationProfile.set_shape")
    assert names[-2:] == ["Builder.build_serialized_network", "ITimingCache.serialize"]

    assert plan.read_bytes() == PLAN
    assert cache.read_bytes() == b"timings"
    assert manifest == read_manifest(plan) == check_manifest(plan, tensorrt=bindings.version)
    assert manifest.gpu.name == "NVIDIA L4"
    assert manifest.gpu.compute_capability == "8.9"
    assert manifest.tensorrt == bindings.version
    assert manifest.onnx == "model.onnx"
    assert manifest.onnx_sha256 == file_sha256(onnx)
    assert manifest.plan_sha256 == file_sha256(plan)
    assert manifest.profiles == TEXT
    assert manifest.options == options
    assert manifest.precision == "fp16"
    assert _files(tmp_path) == ["model.onnx", "model.plan", "model.plan.json", "timing.cache"]


def test_options_that_were_not_chosen_are_not_set(trt, onnx, plan):
    build_plan(onnx, plan, TEXT)
    for name in ("set_flag", "set_memory_pool_limit", "hardware_compatibility_level"):
        assert trt.called(f"IBuilderConfig.{name}") == []


def test_plans_for_one_compute_capability_can_be_built(trt, onnx, plan):
    build_plan(onnx, plan, TEXT, BuildOptions(hardware_compatibility="same_compute_capability"))
    (level,) = trt.called("IBuilderConfig.hardware_compatibility_level")
    assert level["value"].name == "SAME_COMPUTE_CAPABILITY"


def test_a_release_without_that_compatibility_is_named(trt, onnx, plan, monkeypatch):
    """As 10.0 to 10.8 do not."""
    known = {"NONE": 0, "AMPERE_PLUS": 1}
    less = enum.IntEnum("HardwareCompatibilityLevel", known)
    monkeypatch.setattr(trt.module, "HardwareCompatibilityLevel", less)
    with pytest.raises(
        ExportError, match=r"cannot build plans for one compute capability; 10\.9 can"
    ):
        build_plan(onnx, plan, TEXT, BuildOptions(hardware_compatibility="same_compute_capability"))


def test_every_error_of_the_parser_is_reported(trt, onnx, plan):
    facts = [("Mish", "/head/Mish", 7, "no importer"), ("", "", -1, "the graph has a cycle")]
    errors = []
    for operator, name, number, text in facts:
        error = trt.new("ParserError")
        object.__setattr__(error, "_facts", (operator, name, number, text))
        errors.append(error)
    for position, method in enumerate(("node_operator", "node_name", "node", "desc")):
        trt.on(f"ParserError.{method}", lambda error, position=position: error._facts[position])
    unsupported = trt.module.ErrorCode.UNSUPPORTED_NODE
    trt.on("ParserError.code", lambda error: unsupported)
    trt.on("OnnxParser.parse_from_file", lambda parser, model: False)
    trt.on("OnnxParser.num_errors", lambda parser: len(errors))
    trt.on("OnnxParser.get_error", lambda parser, index: errors[index])
    with pytest.raises(ExportError) as caught:
        build_plan(onnx, plan, TEXT)
    message = str(caught.value)
    assert "operator Mish (node /head/Mish): no importer [UNSUPPORTED_NODE]" in message
    assert "node -1: the graph has a cycle" in message
    assert str(onnx) in message
    assert trt.called("Builder.build_serialized_network") == []
    assert not plan.exists()


def test_a_failed_build_reports_the_errors_of_tensorrt(trt, onnx, plan):
    severity = trt.module.ILogger.Severity
    loggers = []
    trt.on("Builder.__init__", lambda builder, logger: loggers.append(logger))

    def fail(builder, network, config):
        loggers[-1].log(severity.ERROR, "could not find any implementation for node MatMul_3")
        loggers[-1].log(severity.WARNING, "beside the point")
        return

    trt.on("Builder.build_serialized_network", fail)
    plan.write_bytes(b"the old one")
    with pytest.raises(ExportError, match="could not find any implementation for node MatMul_3"):
        build_plan(onnx, plan, TEXT)
    assert plan.read_bytes() == b"the old one"


def test_a_profile_that_is_refused_is_named(trt, onnx, plan):
    trt.on("IBuilderConfig.add_optimization_profile", lambda config, profile: -1)
    with pytest.raises(ExportError, match=r"refuses Profile\(input='input_ids', min=\(1, 16\)"):
        build_plan(onnx, plan, TEXT)

    def inconsistent(profile, **shapes):
        raise ValueError("Shape provided for min is inconsistent with other shapes")

    trt.on("IOptimizationProfile.set_shape", inconsistent)
    with pytest.raises(ExportError, match="inconsistent with other shapes"):
        build_plan(onnx, plan, TEXT)


def test_a_profile_of_an_input_that_the_graph_lacks_is_refused(trt, onnx, plan):
    trt.on("ITensor.name", lambda tensor: "pixels")
    with pytest.raises(ExportError, match=r"'input_ids', but the graph's inputs are \['pixels'\]"):
        build_plan(onnx, plan, TEXT)


def test_no_builder_means_no_gpu(trt, onnx, plan):
    def nothing(builder, logger):
        logger.log(trt.module.ILogger.Severity.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    trt.on("Builder.__init__", nothing)
    with pytest.raises(ExportError, match=r"cannot start \(CUDA initialization failure.*driver"):
        build_plan(onnx, plan, TEXT)


def test_timings_are_kept_between_builds(trt, onnx, plan, tmp_path):
    cache = tmp_path / "timing.cache"
    build_plan(onnx, plan, TEXT, timing_cache=cache)
    build_plan(onnx, plan, TEXT, timing_cache=cache)
    created = trt.called("IBuilderConfig.create_timing_cache")
    assert created == [{"serialized_timing_cache": b""}, {"serialized_timing_cache": b"timings"}]
    # A mismatch must not be ignored: timings of another GPU would choose kernels badly.
    attached = trt.called("IBuilderConfig.set_timing_cache")
    assert [call["ignore_mismatch"] for call in attached] == [False, False]


@pytest.mark.parametrize("fault", ["damaged", "of another GPU"])
def test_an_unusable_timing_cache_is_replaced(trt, onnx, plan, tmp_path, caplog, fault):
    cache = tmp_path / "timing.cache"
    cache.write_bytes(b"useless")
    attached = []

    def create(config, serialized_timing_cache):
        if fault == "damaged" and serialized_timing_cache:
            return None
        attached.append(serialized_timing_cache)
        return trt.new("ITimingCache")

    trt.on("IBuilderConfig.create_timing_cache", create)
    trt.on("IBuilderConfig.set_timing_cache", lambda config, **_: attached[-1] == b"")
    with caplog.at_level(logging.WARNING):
        build_plan(onnx, plan, TEXT, timing_cache=cache)
    assert attached[-1] == b""
    assert cache.read_bytes() == b"timings"
    assert "timing cache" in caplog.text


def test_ctrl_c_ends_the_build_at_the_next_step(trt, onnx, plan, monkeypatch):
    plan.write_bytes(b"the old one")
    answers = []

    def build(builder, network, config):
        monitor = trt.monitors[-1]
        monitor.phase_start("tactics", None, 3000)
        time.sleep(0.1)
        signal.raise_signal(signal.SIGINT)
        for step in range(3000):
            answers.append(monitor.step_complete("tactics", step))
            if not answers[-1]:
                break
            time.sleep(0.01)  # here TensorRT times kernels, and no Python runs in this thread

    trt.on("Builder.build_serialized_network", build)
    # Where tests run in a shell's background, SIGINT is ignored.
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            build_plan(onnx, plan, TEXT)
    finally:
        signal.signal(signal.SIGINT, old)
    assert answers[-1] is False
    assert plan.read_bytes() == b"the old one"
    assert not manifest_file(plan).exists()
    assert _files(plan.parent) == ["model.onnx", "model.plan"]


@contextmanager
def _disk_of(limit):
    """Limit each file of this process to `limit` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("limit", [len(PLAN) - 1, 16])
def test_a_full_disk_leaves_the_old_plan_and_manifest(trt, onnx, plan, bindings, limit):
    """The first limit stops the plan; the second stops the manifest of a plan that fits."""
    build_plan(onnx, plan, TEXT)
    before = plan.read_bytes(), manifest_file(plan).read_bytes()
    new = b"a new plan" * 10_000 if limit > 16 else b"small"

    def build(builder, network, config):
        return trt.new("IHostMemory", new)

    trt.on("Builder.build_serialized_network", build)
    with pytest.raises(OSError, match="File too large"), _disk_of(limit):
        build_plan(onnx, plan, TEXT)
    assert (plan.read_bytes(), manifest_file(plan).read_bytes()) == before
    check_manifest(plan, tensorrt=bindings.version)
    assert _files(plan.parent) == ["model.onnx", "model.plan", "model.plan.json"]


def test_a_graph_with_weights_beside_it_is_parsed_by_its_path(trt, onnx, plan):
    """The parser finds the weights by the path; the hash covers their contents."""
    weights = onnx.with_name("model.onnx.data")
    weights.write_bytes(b"weights")
    first = build_plan(onnx, plan, TEXT)
    weights.write_bytes(b"others")
    second = build_plan(onnx, plan, TEXT)
    assert first.onnx_sha256 != second.onnx_sha256
    assert trt.called("OnnxParser.parse_from_file") == [{"model": str(onnx)}] * 2
    assert trt.called("OnnxParser.parse") == []


def test_without_a_gpu_no_build_starts(trt, onnx, plan, program):
    program("nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9")
    with pytest.raises(EngineError, match=r"no GPU found.*NVIDIA-SMI has failed"):
        build_plan(onnx, plan, TEXT)
    assert trt.calls == []


def test_a_missing_graph_is_named(trt, plan):
    with pytest.raises(ExportError, match=r"nowhere\.onnx: no such graph"):
        build_plan(Path("nowhere.onnx"), plan, TEXT)


def test_without_tensorrt_the_alternatives_are_named(monkeypatch, onnx, plan):
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "vireo_export.tensorrt.network", raising=False)
    with pytest.raises(MissingExtraError) as caught:
        build_plan(onnx, plan, TEXT)
    for alternative in ("vireo[gpu]", "--dry-run", "trtexec"):
        assert alternative in str(caught.value)


def test_tensorrt_without_its_libraries_says_which_is_missing(monkeypatch, onnx, plan, tmp_path):
    package = tmp_path / "site" / "tensorrt"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import ctypes\nctypes.CDLL('libnvinfer.so.987')\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(ExportError, match=r"does not load \(libnvinfer\.so\.987.*--dry-run"):
        build_plan(onnx, plan, TEXT)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda trt, config: config.set_flags(trt.BuilderFlag.TF32),
        lambda trt, config: config.set_flag(trt.MemoryPoolType.WORKSPACE),
        lambda trt, config: config.set_flag(flags=trt.BuilderFlag.TF32),
        lambda trt, config: config.set_timing_cache(config.get_timing_cache()),
        lambda trt, config: setattr(config, "progress_monitor", object()),
        lambda trt, config: setattr(config, "colour", 3),
        lambda trt, config: setattr(config, "num_optimization_profiles", 3),
        lambda trt, config: trt.IBuilderConfig(),
    ],
)
def test_the_stand_in_refuses_what_the_bindings_refuse(world, wrong):
    trt = world.module
    config = trt.Builder(trt.Logger()).create_builder_config()
    with pytest.raises(RefusedError):
        wrong(trt, config)


def test_the_stand_in_requires_that_the_constructor_was_called(world):
    class Forgetful(world.module.ILogger):
        def __init__(self):
            pass

    with pytest.raises(RefusedError, match="did not call the __init__ of ILogger"):
        world.module.Builder(Forgetful())


def test_an_export_builds_beside_its_graphs_and_prints_relative_lines(
    trt, bundle, onnx, tmp_path, capsys
):
    fp16 = Precisions("fp16", "fp16")
    cache = tmp_path / "timing.cache"
    built = build_plans(
        {"text_encoder": onnx}, bundle, fp16, BuildOptions(), max_batch_size=16, timing_cache=cache
    )
    assert built == {"text_encoder": onnx.with_name("model.plan")}
    manifest = check_manifest(built["text_encoder"])
    assert manifest.precision == "fp16"
    assert [p.max for p in manifest.profiles] == [(16, b) for b in bundle.config.text.buckets]
    assert cache.read_bytes() == b"timings"
    (line,) = (s for s in capsys.readouterr().err.splitlines() if s.startswith("trtexec "))
    assert "--onnx=text_encoder/model.onnx --saveEngine=text_encoder/model.plan" in line
    assert str(tmp_path) not in line
