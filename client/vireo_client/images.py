"""What a picture becomes: the one image path of training, export, client and server."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from .bundle import ImageSpec
from .errors import ImageError

ImageSource = str | Path | bytes | Image.Image
"""A path, an encoded file's bytes, or a decoded picture."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

MAX_PIXELS = 120_000_000
"""Larger pictures are refused before they are decoded: as RGB this one takes 360 MB. Phones of 108
megapixels stay below it."""

# The limit above stands in for Pillow's own warning; its error, far above, stays.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")

_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def open_image(source: ImageSource, *, name: str | None = None) -> Image.Image:
    """Decodes `source` fully, turns it upright by its EXIF orientation, and gives it as RGB.

    Transparent pictures are laid on white; of animated ones the first frame counts; of 16 bits a
    channel the upper 8 are kept.

    Args:
        source: the picture.
        name: what errors call it; by default its path, where it has one.

    Raises:
        ImageError: the file is missing, is empty, is no picture, is damaged, or has more than
            `MAX_PIXELS` pixels; the message names the file.
    """
    if name is None:
        name = str(source) if isinstance(source, (str, Path)) else "picture"
    try:
        if isinstance(source, Image.Image):
            picture = source
        else:
            picture = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
            _check(picture)
        if picture.mode in _SIXTEEN_BIT:
            picture = _eight_bit(picture)
        picture = ImageOps.exif_transpose(picture)
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            layer = picture.convert("RGBA")
            picture = Image.new("RGBA", layer.size, "white")
            picture.alpha_composite(layer)
        return picture.convert("RGB")
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: too large a picture; {_LIMIT}") from None
    except UnidentifiedImageError:
        empty = source == b"" or (
            isinstance(source, (str, Path)) and not Path(source).stat().st_size
        )
        what = "no bytes at all" if empty else "no format that Pillow knows"
        raise ImageError(f"{name}: not a readable picture ({what})") from None
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    # Pillow's decoders raise whatever their formats trip over; all of it means one thing here.
    except Exception as error:
        raise ImageError(f"{name}: not a readable picture ({error})") from error


_LIMIT = f"at most {MAX_PIXELS:,} pixels are taken; make it smaller"


def _check(picture: Image.Image) -> None:
    """Refuses what would be too dear or too dangerous to decode; nothing is decoded yet."""
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"too large a picture ({width} x {height}); {_LIMIT}")
    if picture.format == "EPS":  # a program: Pillow would hand it to Ghostscript
        raise ImageError("not a readable picture (EPS is a program, not a picture)")


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Keeps the upper 8 of 16 bits; Pillow's own conversion clips at 255 instead."""
    values = np.asarray(picture)
    if picture.mode == "I" and values.max() < 256:  # 32 bits wide, but with 8 used
        return picture
    exif = picture.getexif()
    clear = picture.info.get("transparency")
    grey = Image.fromarray(np.clip(values >> 8, 0, 255).astype(np.uint8))
    if isinstance(clear, int):  # the one grey value that is to be seen through
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    grey.getexif().update(exif)
    return grey


def to_pixels(picture: Image.Image, spec: ImageSpec) -> npt.NDArray[np.uint8]:
    """Resizes a picture and keeps its centre, as `spec` says.

    Only the part that is kept is resized: it is as fast for a panorama as for a square.

    Returns:
        UINT8 `[3, size, size]`, RGB, not normalised: the image tower does that.
    """
    picture = picture.resize(
        (spec.size, spec.size),
        _RESAMPLING[spec.interpolation],
        box=_kept(picture.size, spec),
        # Lets Pillow shrink a large photo in cheap whole steps first; other libraries do not.
        reducing_gap=3.0 if spec.fit == "window" else None,
    )
    return np.ascontiguousarray(np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1))


def _kept(shape: tuple[int, int], spec: ImageSpec) -> tuple[float, float, float, float]:
    """The part of a picture of `shape` (width, height) that becomes the pixels: its box."""
    width, height = shape
    if spec.fit == "window":
        side = min(width, height) * spec.size / spec.resize
        left, top = (width - side) / 2, (height - side) / 2
        return left, top, left + side, top + side
    if spec.fit == "squash":
        resized = (spec.resize, spec.resize)
    else:
        short = min(width, height)
        resized = (spec.resize * width // short, spec.resize * height // short)
    # Resizing the whole picture and cutting it then gives the same pixels.
    edges = []
    for full, side in zip(shape, resized, strict=True):
        cut = side - spec.size
        start = cut // 2 if spec.offset == "floor" else round(cut / 2)
        edges.append((start * full / side, min((start + spec.size) * full / side, full)))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def load_pixels(
    source: ImageSource, spec: ImageSpec, *, name: str | None = None
) -> npt.NDArray[np.uint8]:
    """Decodes and preprocesses one picture to UINT8 `[3, size, size]`.

    Raises:
        ImageError: as `open_image`.
    """
    return to_pixels(open_image(source, name=name), spec)


def find_images(folder: Path) -> list[Path]:
    """Lists the picture files below `folder`, sorted; hidden files and folders are passed over."""
    found = (
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    return sorted(found)
