"""Parts that the configurations of several models have in common."""

from __future__ import annotations

from collections.abc import Sequence

from tritonclient.grpc import model_config_pb2 as pb
from vireo_client import __version__
from vireo_client.bundle import BundleConfig
from vireo_client.repository import BULK_PRIORITY, BUNDLE_PARAMETER, QUERY_PRIORITY

from ..models import exported_with
from .triton_config import ServingOptions


def model(name: str, bundle: BundleConfig, options: ServingOptions) -> pb.ModelConfig:
    """Return a configuration without inputs, outputs and backend."""
    config = pb.ModelConfig(name=name, max_batch_size=options.max_batch_size)
    set_parameter(config, BUNDLE_PARAMETER, bundle.bundle_id)
    set_parameter(config, exported_with.PARAMETER, __version__)
    return config


def set_parameter(config: pb.ModelConfig, key: str, value: object) -> None:
    """Set a parameter, which a backend or a Python model reads from its configuration."""
    config.parameters[key].string_value = str(value)


def add_input(
    config: pb.ModelConfig, name: str, dtype: pb.DataType, *dims: int, optional: bool = False
) -> None:
    """Add an input tensor; `dims` leaves out the batch."""
    config.input.add(name=name, data_type=dtype, dims=dims, optional=optional)


def add_output(config: pb.ModelConfig, name: str, dtype: pb.DataType, *dims: int) -> None:
    """Add an output tensor; `dims` leaves out the batch."""
    config.output.add(name=name, data_type=dtype, dims=dims)


def add_pixels(config: pb.ModelConfig, size: int) -> None:
    """Add the outputs of image preprocessing: UINT8 `pixels`, BOOL `readable`, BYTES `error`."""
    add_output(config, "pixels", pb.TYPE_UINT8, 3, size, size)
    add_output(config, "readable", pb.TYPE_BOOL, 1)
    add_output(config, "error", pb.TYPE_STRING, 1)


def batch_dynamically(config: pb.ModelConfig, options: ServingOptions) -> None:
    """Join waiting requests to batches; with limits, bound the queue and put bulk work last."""
    batching = config.dynamic_batching
    batching.SetInParent()
    batching.max_queue_delay_microseconds = options.max_queue_delay_us
    limits = options.queue_limits
    if limits is None:
        return
    batching.priority_levels = BULK_PRIORITY
    batching.default_priority_level = QUERY_PRIORITY
    for policy, timeout_ms in (
        (batching.default_queue_policy, limits.timeout_ms),
        (batching.priority_queue_policy[BULK_PRIORITY], limits.bulk_timeout_ms),
    ):
        policy.timeout_action = pb.ModelQueuePolicy.REJECT
        policy.default_timeout_microseconds = timeout_ms * 1000
        policy.allow_timeout_override = True
        policy.max_queue_size = limits.size


def run_on_cpu(config: pb.ModelConfig, count: int = 1) -> None:
    """Add `count` instances on CPUs."""
    config.instance_group.add(count=count, kind=pb.ModelInstanceGroup.KIND_CPU)


def run_on_gpus(config: pb.ModelConfig, count: int, gpus: Sequence[int]) -> None:
    """Add `count` instances on each of the GPUs; on all where `gpus` is empty."""
    config.instance_group.add(count=count, kind=pb.ModelInstanceGroup.KIND_GPU, gpus=gpus)
