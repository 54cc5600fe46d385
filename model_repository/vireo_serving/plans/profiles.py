"""Optimisation profiles: the shapes for which TensorRT picks kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vireo_client.bundle import BundleConfig
from vireo_client.errors import ExportError
from vireo_client.repository import IMAGE_MODEL, TEXT_MODEL

TEXT_INPUT = "input_ids"
IMAGE_INPUT = "pixels"

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """The shapes of one input that one profile covers; the first dimension is the batch.

    Kernels are chosen to be fastest at `opt` and work for all shapes from `min` to `max`.

    Raises:
        ExportError: the shapes differ in rank, are not positive, or do not ascend.
    """

    input: str
    min: Shape
    opt: Shape
    max: Shape

    def __post_init__(self) -> None:
        ranks = {len(self.min), len(self.opt), len(self.max)}
        ascend = all(
            1 <= low <= middle <= high
            for low, middle, high in zip(self.min, self.opt, self.max, strict=False)
        )
        if len(ranks) != 1 or 0 in ranks or not ascend:
            raise ExportError(
                f"profile of {self.input}: {dims(self.min)} <= {dims(self.opt)} <= "
                f"{dims(self.max)} does not hold; give shapes of one rank that ascend"
            )

    def holds(self, shape: Sequence[int]) -> bool:
        """Return whether the profile covers an input of this shape."""
        return len(shape) == len(self.min) and all(
            low <= size <= high for low, size, high in zip(self.min, shape, self.max, strict=True)
        )


def dims(shape: Sequence[int]) -> str:
    """Format a shape as TensorRT's tools do, such as `8x3x224x224`."""
    return "x".join(map(str, shape))


def bundle_profiles(
    bundle: BundleConfig, max_batch_size: int, *, opt_batch: int | None = None
) -> dict[str, tuple[Profile, ...]]:
    """Return the profiles of both towers.

    The text tower has one per bucket, in ascending order: a profile of one length has the kernels
    for that length, and a profile over all lengths would have a compromise. The image tower has
    one.

    Args:
        bundle: settings of the bundle: buckets and image size.
        max_batch_size: Triton's, the largest batch of every profile.
        opt_batch: the batch to be fastest at; by default halfway between 1 and the largest on a
            logarithmic scale (8 of 64), since the dynamic batcher forms all sizes in between.

    Returns:
        The profiles by model name.

    Raises:
        ExportError: a batch size is below 1, or `opt_batch` above the largest.
    """
    if max_batch_size < 1:
        raise ExportError(f"max_batch_size is {max_batch_size}; it must be 1 or more")
    if opt_batch is None:
        opt_batch = 1 << math.ceil(math.log2(max_batch_size) / 2)

    def profile(name: str, *rest: int) -> Profile:
        return Profile(name, (1, *rest), (opt_batch, *rest), (max_batch_size, *rest))

    return {
        TEXT_MODEL: tuple(profile(TEXT_INPUT, bucket) for bucket in bundle.text.buckets),
        IMAGE_MODEL: (profile(IMAGE_INPUT, 3, bundle.image.size, bundle.image.size),),
    }


def spanning(profiles: Sequence[Profile]) -> Profile:
    """Join the profiles of one input into one that covers them all, with the last one's optimum.

    Raises:
        ExportError: there is none, or they are of several inputs.
    """
    names = {profile.input for profile in profiles}
    if len(names) != 1:
        raise ExportError(f"cannot join profiles of {sorted(names) or 'nothing'} into one")
    return Profile(
        profiles[0].input,
        tuple(min(column) for column in zip(*(p.min for p in profiles), strict=True)),
        profiles[-1].opt,
        tuple(max(column) for column in zip(*(p.max for p in profiles), strict=True)),
    )
