"""The interface of a target: everything that depends on what runs the towers inside Triton.

A target is a frozen dataclass. Its fields are the options that it alone has, with their help texts
for the command line; its class attributes are facts about it, for those who make engines.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import model_config_pb2 as pb
from vireo_client.bundle import BundleConfig
from vireo_client.errors import ExportError

from ..configs.triton_config import ServingOptions
from ..plans.options import BuildOptions


@dataclass(frozen=True, slots=True)
class Samples:
    """Real inputs that models are warmed up with, raw and preprocessed."""

    texts: Mapping[int, tuple[str, npt.NDArray[np.int32]]]
    """By bucket: a text of real words, and its ids `[L]`."""
    pad_id: int
    """The id that pads texts."""
    image: bytes
    """An image file."""
    pixels: npt.NDArray[np.uint8]
    """The same image, `[3, H, W]`."""
    embedding_dim: int
    """Size of an embedding."""


class WarmUp(NamedTuple):
    """A request that Triton sends to a model before it reports the model as ready."""

    model: str
    name: str
    batches: Sequence[int]
    """Batch sizes; Triton repeats the one row of each tensor."""
    tensors: Mapping[str, npt.NDArray[np.generic] | bytes]
    """One row of each input, by the input's name."""


class PlanBuild(NamedTuple):
    """A build of TensorRT plans from the towers' graphs."""

    options: BuildOptions
    here: bool
    """Whether this machine builds them. Otherwise everything but the build is prepared."""


@dataclass(frozen=True)
class Target(ABC):
    """A way to run the towers inside Triton, with the options that it alone has."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """The place where the towers run, in a few words for help texts."""

    precisions: ClassVar[tuple[str, ...]]
    """Precisions of engines that it runs. The first is the default."""
    engine_suffixes: ClassVar[tuple[str, ...]]
    """Suffixes of engine files in its repositories. The first is that of the files it runs."""
    custom_operators: ClassVar[bool]
    """Whether graphs may hold operators beyond the ONNX standard, ONNX Runtime's among them."""
    unwanted_fusions: ClassVar[frozenset[str]] = frozenset()
    """Fused operators that are slower here than their parts."""

    text_preprocessor: ClassVar[str]
    """The model that turns texts into ids. It gets the tokenizer's and segmenter's files."""
    image_preprocessor: ClassVar[str]
    """The model that turns image files into pixels. It gets `bundle.json`."""

    def plan_build(self) -> PlanBuild | None:
        """Return how plans are built; None where Triton runs the graphs themselves."""
        return None

    def configs(
        self, bundle: BundleConfig, options: ServingOptions, *, version: int = 1
    ) -> dict[str, pb.ModelConfig]:
        """Build the configuration of every model, without warm-up.

        Args:
            bundle: settings of the bundle that the engines were made from.
            options: the options that every target has.
            version: the one version that Triton is to load.

        Returns:
            The configurations by model name; models that ensembles use come before them.

        Raises:
            ExportError: an option does not fit this target.
        """
        configs = self._configs(bundle, options, version)
        for config in configs:
            config.version_policy.specific.versions.append(version)
        return {config.name: config for config in configs}

    @abstractmethod
    def _configs(
        self, bundle: BundleConfig, options: ServingOptions, version: int
    ) -> list[pb.ModelConfig]: ...

    @abstractmethod
    def warm_up(self, samples: Samples, options: ServingOptions) -> Iterator[WarmUp]:
        """Yield the requests that warm its models up."""


CPU_WARM_UP_BATCH = 8
"""A larger batch takes a CPU many seconds and changes nothing but the memory held."""


def warm_up_batches(options: ServingOptions, *, on_cpu: bool) -> tuple[int, ...]:
    """Return the batch sizes of warm-up, ascending: 1, and a large one where there is any."""
    large = min(options.max_batch_size, CPU_WARM_UP_BATCH) if on_cpu else options.max_batch_size
    return (1,) if large == 1 else (1, large)


def check_gpus(gpus: Sequence[int]) -> None:
    """Check the numbers of GPUs.

    Raises:
        ExportError: one is negative.
    """
    if any(gpu < 0 for gpu in gpus):
        raise ExportError(f"--gpu is given {tuple(gpus)}; GPUs are numbered from 0")
