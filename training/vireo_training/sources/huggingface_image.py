"""Turn the image preprocessing of transformers into a bundle's `ImageSpec`."""

from __future__ import annotations

from typing import Any, Literal

from vireo_client.bundle import ImageSpec
from vireo_client.errors import ExportError, first_line

# The processors' files name filters by Pillow's numbers.
_INTERPOLATION: dict[int, Literal["lanczos", "bilinear", "bicubic"]] = {
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
}


def image_spec(name: str, source: str) -> ImageSpec:
    """Read the image processor's settings.

    Raises:
        ExportError: there is no processor, or an `ImageSpec` cannot express its settings.
    """
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(source)  # type: ignore[no-untyped-call]
    except Exception as error:  # transformers, the hub and the file system raise many kinds
        raise ExportError(
            f"{name}: its image preprocessing cannot be read ({first_line(error)}); "
            "preprocessor_config.json must lie beside the weights"
        ) from error
    fit, resize, size = _geometry(name, processor)
    mean, std = _statistics(processor)
    resample = int(processor.resample)
    if resample not in _INTERPOLATION:
        raise _refusal(name, f"resamples with Pillow's filter {resample}")
    try:
        return ImageSpec(
            size=size,
            resize=resize,
            fit=fit,
            interpolation=_INTERPOLATION[resample],
            mean=mean,
            std=std,
        )
    except ValueError as error:
        raise _refusal(name, f"resizes to {resize} and crops to {size}") from error


def _geometry(name: str, processor: Any) -> tuple[Literal["shortest", "squash"], int, int]:
    """Return how an image is resized, the length it is resized to, and the edge of the crop."""
    if not processor.do_resize or getattr(processor, "do_pad", None):
        raise _refusal(name, "pads images or does not resize them")
    size, cropped = processor.size, getattr(processor, "do_center_crop", None)
    crop = processor.crop_size if cropped else None
    if crop is not None and crop["height"] != crop["width"]:
        raise _refusal(name, f"crops to {crop['height']} x {crop['width']}")
    short, height, width = size.get("shortest_edge"), size.get("height"), size.get("width")
    if short and crop is not None and not size.get("longest_edge"):
        return "shortest", short, crop["height"]
    if height and height == width:
        return "squash", height, crop["height"] if crop is not None else height
    raise _refusal(name, f"resizes to {dict(size)}, which is not square")


def _statistics(processor: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return channel means and deviations, for pixels from 0 to 1, that replace all its steps."""
    scale, shift = (processor.rescale_factor, 0.0) if processor.do_rescale else (1.0, 0.0)
    if processor.do_rescale and getattr(processor, "rescale_offset", False):
        shift = -1.0  # as in EfficientNet's processor, which ALIGN uses
    means, deviations = [0.0] * 3, [1.0] * 3
    if processor.do_normalize:
        means, deviations = list(processor.image_mean), list(processor.image_std)
    again = [1.0] * 3
    if getattr(processor, "include_top", False):
        again = list(processor.image_std)
    # y = ((x * scale + shift) - mean) / deviation / again, for x from 0 to 255.
    std = tuple(d * a / (255 * scale) for d, a in zip(deviations, again, strict=True))
    mean = tuple((m - shift) / (255 * scale) for m in means)
    return mean, std


def _refusal(name: str, reason: str) -> ExportError:
    return ExportError(
        f"{name}: its image preprocessing {reason}; only models with square images can be "
        "exported, made by resizing the short side or both sides and by a centre crop"
    )
