"""The picture preprocessing of transformers as a bundle's `ImageSpec`."""

from __future__ import annotations

from typing import Any, Literal

from vireo_client.bundle import ImageSpec
from vireo_client.errors import ExportError

from .foreign import first_line

# Pillow's numbers of its filters, which the processors' files hold.
_INTERPOLATION: dict[int, Literal["lanczos", "bilinear", "bicubic"]] = {
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
}


def image_spec(name: str, source: str) -> ImageSpec:
    """Reads the processor's settings.

    Raises:
        ExportError: there is no processor, or it does what an `ImageSpec` cannot say.
    """
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(source)  # type: ignore[no-untyped-call]
    except Exception as error:  # transformers, the hub and the file system raise many kinds
        raise ExportError(
            f"{name}: its picture preprocessing cannot be read ({first_line(error)}); "
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
    """How a picture is resized, the length it is resized to, and the edge of what is kept."""
    if not processor.do_resize or getattr(processor, "do_pad", None):
        raise _refusal(name, "pads pictures, or does not resize them")
    size, cropped = processor.size, getattr(processor, "do_center_crop", None)
    crop = processor.crop_size if cropped else None
    if crop is not None and crop["height"] != crop["width"]:
        raise _refusal(name, f"crops to {crop['height']} x {crop['width']}")
    short, height, width = size.get("shortest_edge"), size.get("height"), size.get("width")
    if short and crop is not None and not size.get("longest_edge"):
        return "shortest", short, crop["height"]
    if height and height == width:
        return "squash", height, crop["height"] if crop is not None else height
    raise _refusal(name, f"resizes to {dict(size)}, which leaves no square")


def _statistics(processor: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation, of values between 0 and 1, that do all the processor's arithmetic."""
    scale, shift = (processor.rescale_factor, 0.0) if processor.do_rescale else (1.0, 0.0)
    if processor.do_rescale and getattr(processor, "rescale_offset", False):
        shift = -1.0  # EfficientNet's, which ALIGN has
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


def _refusal(name: str, what: str) -> ExportError:
    return ExportError(
        f"{name}: its picture preprocessing {what}; only square pictures, made by resizing the "
        "short side or both sides and a centre crop, can be exported"
    )
