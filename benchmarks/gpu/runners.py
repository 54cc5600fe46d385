"""Ways to run a tower on a GPU: PyTorch, ONNX Runtime, TensorRT. Never run yet.

Each returns a function that runs one batch of ready inputs that lie on the GPU, and returns when
the GPU is done.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[], object]


def torch_eager(bundle: Path, tower: str, values: np.ndarray) -> Run:
    """Run the module in PyTorch under autocast to FP16."""
    import torch

    module, tensor = _module(bundle, tower), torch.from_numpy(values).cuda()
    return synchronised(lambda: _autocast(module, tensor))


def torch_compiled(bundle: Path, tower: str, values: np.ndarray) -> Run:
    """The same, compiled by `torch.compile`."""
    import torch

    module, tensor = torch.compile(_module(bundle, tower)), torch.from_numpy(values).cuda()
    return synchronised(lambda: _autocast(module, tensor))


def torch_graph(bundle: Path, tower: str, values: np.ndarray) -> Run:
    """Replay a CUDA graph of the module, captured for this very shape."""
    import torch

    module, tensor = _module(bundle, tower), torch.from_numpy(values).cuda()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # libraries choose their kernels before the capture
            _autocast(module, tensor)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        _autocast(module, tensor)
    return synchronised(graph.replay)


def onnxruntime_cuda(engine: Path, values: np.ndarray, dim: int, *, graph: bool) -> Run:
    """Run an FP16 file with ONNX Runtime's CUDA provider, with or without a CUDA graph."""
    import onnxruntime as ort

    provider = ("CUDAExecutionProvider", {"enable_cuda_graph": "1" if graph else "0"})
    session = ort.InferenceSession(engine, providers=[provider])
    if "CUDAExecutionProvider" not in session.get_providers():
        raise RuntimeError("ONNX Runtime did not load its CUDA provider; see its own error above")
    binding = session.io_binding()
    inputs = ort.OrtValue.ortvalue_from_numpy(values, "cuda", 0)
    outputs = ort.OrtValue.ortvalue_from_shape_and_type((len(values), dim), np.float32, "cuda", 0)
    binding.bind_ortvalue_input(session.get_inputs()[0].name, inputs)
    binding.bind_ortvalue_output("embedding", outputs)
    return lambda: session.run_with_iobinding(binding)


def tensorrt(engine: Path, plan: Path, values: np.ndarray) -> Run:
    """Build a plan for this GPU, unless it is there, and run it. Includes the copies of a batch."""
    from vireo_export.tensorrt.builder import build_plan
    from vireo_export.tensorrt.plan_towers import PlanRunner
    from vireo_serving.plans.profiles import Profile

    if not plan.is_file():
        plan.parent.mkdir(parents=True, exist_ok=True)
        name = "input_ids" if values.ndim == 2 else "pixels"
        row = values.shape[1:]
        profile = Profile(name, (1, *row), (min(32, len(values)), *row), values.shape)
        build_plan(engine, plan, [profile], timing_cache=plan.parent / "timings.cache")
    runner = PlanRunner(plan)
    return lambda: runner.run(values)


def _module(bundle: Path, tower: str) -> Any:
    from vireo_client.bundle import Bundle
    from vireo_training.models.bundle_writer import load_model

    model = load_model(Bundle(bundle))
    return (model.text_tower if tower == "text" else model.image_tower).cuda().eval()


def _autocast(module: Any, tensor: Any) -> Any:
    import torch

    with torch.inference_mode(), torch.autocast("cuda", torch.float16):
        return module(tensor)


def synchronised(run: Run) -> Run:
    """Return a function that calls another one and waits for the GPU."""
    import torch

    def run_and_wait() -> None:
        run()
        torch.cuda.synchronize()

    return run_and_wait
