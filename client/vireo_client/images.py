"""Decodes images to pixels: the one image path of training, export, client and server."""

from __future__ import annotations

import io
import os
import struct
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from .bundle import ImageSpec
from .errors import ImageError

ImageSource = str | Path | bytes | Image.Image | npt.NDArray[np.uint8]
"""A path (also `ARCHIVE.tar/NAME`, as an index names an image in a tar), the bytes of an encoded
file, a decoded image, or its RGB pixels, UINT8 `[H, W, 3]`."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp",
                      ".dib", ".gif", ".tif", ".tiff", ".jp2", ".j2k", ".j2c", ".jpc", ".jpx",
                      ".jpf", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".psd", ".qoi",
                      ".pcx", ".avif", ".avifs", ".heic", ".heif", ".hif"})  # fmt: skip
"""The suffixes of photos and pictures, whether or not this Pillow reads them all."""

MAX_PIXELS = 120_000_000
"""The limit of an image's pixels. A larger one is refused before it is decoded: as RGB, an image of
this size takes 360 MB. The photos of phones with 108 megapixels are below the limit."""

REDUCED_PIXELS = 24_000_000
"""JPEG files with more pixels are decoded at a reduced scale, which their format allows: a photo of
108 megapixels then takes 5 MB in place of 324 MB. All others are decoded in full."""
_REDUCED_GAP = 3
"""Such an image still has at least so many pixels for each one that is kept, along each side."""

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")

_ORIENTATION = 0x0112
"""The EXIF tag."""
_TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image of each orientation upright."""

_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def open_image(
    source: ImageSource, *, name: str | None = None, least: int | None = None
) -> Image.Image:
    """Decode an image to RGB, upright by its EXIF orientation.

    A transparent image is laid on white. Of an animation, the first frame is taken. Of 16 bits a
    channel, the upper 8 are kept.

    Args:
        source: the image.
        name: the image's name in errors; by default its path, where it has one.
        least: pixels that each side needs at least. A JPEG of more than `REDUCED_PIXELS` is then
            decoded at a reduced scale.

    Raises:
        ImageError: the file is missing, is empty, is no image, is damaged, or has more than
            `MAX_PIXELS` pixels; the message names the file.
    """
    if name is None:
        name = str(source) if isinstance(source, (str, Path)) else "image"
    try:
        if isinstance(source, Image.Image):
            return _to_rgb(source)
        if isinstance(source, np.ndarray):
            return _from_array(source)
        with _file_of(source) as file:
            filename = "" if isinstance(file, io.BytesIO) else os.fspath(file.name)
            return _to_rgb(_reduced(_open(file, filename), least))
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: too large an image; {_LIMIT}") from None
    except UnidentifiedImageError as error:
        if str(error):
            raise ImageError(f"{name}: not a readable image ({error})") from None
        reason = "no bytes at all" if _is_empty(source) else "no format that Pillow knows"
        raise ImageError(f"{name}: not a readable image ({reason})") from None
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    # Pillow's decoders raise many kinds of exception; all of them mean the same here.
    except Exception as error:
        raise ImageError(f"{name}: not a readable image ({error})") from error


def _file_of(source: str | Path | bytes) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    # `open` takes a number for a file that is open already, perhaps the index's, and closes it.
    if not isinstance(source, (str, os.PathLike)):
        raise ImageError(
            f"an image of type {type(source).__name__}; give a path, bytes, a Pillow image, or an "
            "array"
        )
    try:
        return open(source, "rb")
    except NotADirectoryError:
        from .archived import read_archived

        return io.BytesIO(read_archived(source))


def _is_empty(source: ImageSource) -> bool:
    if isinstance(source, (str, Path)):
        return os.path.isfile(source) and not os.path.getsize(source)
    return source == b""


def _open(file: BinaryIO, filename: str) -> Image.Image:
    image = open_header(file, filename)
    if image.format == "TIFF":
        _keep_only_orientation(image)
    return image


def open_header(file: BinaryIO, filename: str = "") -> Image.Image:
    """Open an image as `Image.open` does, with our limit of pixels instead of Pillow's warning.

    `Image.open` warns of images that are within our limit. Python's warning filters hold for the
    whole process and all of its threads, so that a library cannot silence that warning locally.

    Raises:
        UnidentifiedImageError: no plugin of Pillow knows the format.
        ImageError: the image has too many pixels, or is a program.
    """
    prefix = file.read(16)
    tried: set[str] = set()
    heif = is_heif(prefix)
    if heif:
        _register_heif()
    for load_plugins in (Image.preinit, Image.init):  # the usual formats first, as in Pillow
        load_plugins()
        for plugin, (factory, accept) in list(Image.OPEN.items()):
            if plugin in tried:
                continue
            tried.add(plugin)
            try:
                accepted = accept is None or accept(prefix)
                # An answer in words says that Pillow was built without a library for the format.
                if not accepted or isinstance(accepted, str):
                    continue
                file.seek(0)
                image = factory(file, filename)
            except (SyntaxError, IndexError, TypeError, struct.error):  # not this format
                continue
            _check(image)
            return image
    if heif:
        advice = "not what it says, or damaged" if _register_heif() else "install 'vireo[heif]'"
        raise UnidentifiedImageError(f"HEIF, as phones write it; {advice}")
    raise UnidentifiedImageError


def is_heif(prefix: bytes) -> bool:
    """Return whether a file that begins with these 12 bytes or more is in the HEIF format."""
    return prefix[4:8] == b"ftyp" and prefix[8:12] in _HEIF_BRANDS


def _from_array(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        shape = " x ".join(map(str, pixels.shape))
        raise ImageError(f"an array of {pixels.dtype}, {shape}; give RGB as UINT8 [H, W, 3]")
    if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
        raise ImageError(f"too large an image ({pixels.shape[1]} x {pixels.shape[0]}); {_LIMIT}")
    return Image.fromarray(pixels)


@cache
def _register_heif() -> bool:
    """Register the HEIF plugin with Pillow, once; False where it is not installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _reduced(image: Image.Image, least: int | None) -> Image.Image:
    """Let a large JPEG that has not been decoded yet be decoded at a half, a quarter or an eighth.

    Each side keeps `least` pixels or more.
    """
    if least is not None and image.width * image.height > REDUCED_PIXELS:
        image.draft(None, (least, least))  # does nothing for other formats
    return image


def decoding_work(source: bytes) -> int:
    """Return how many pixels a file makes a decoder write; 0 if it is not a readable image.

    Only its header is read. A progressive JPEG counts once for every ten scans: each scan writes
    all pixels again, and may be a few bytes long. Editors write about ten.
    """
    try:
        image = _open(io.BytesIO(source), "")
    except Exception:  # of many kinds, as with `open_image`, which says what is wrong
        return 0
    scans = source.count(_START_OF_SCAN) if image.format in ("JPEG", "MPO") else 1
    return image.width * image.height * max(1, -(-scans // 10))


_START_OF_SCAN = b"\xff\xda"


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()  # PNG may hold its EXIF block behind the pixels
    turn = _TURNS.get(_orientation(image))
    if image.mode in _SIXTEEN_BIT:
        image = _eight_bit(image)
    if turn is not None:
        image = image.transpose(turn)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    return image.convert("RGB")


def _keep_only_orientation(image: Image.Image) -> None:
    """Forget all tags of a TIFF but its orientation, before it is decoded.

    Pillow turns a TIFF upright while it decodes, and fails then at tags that are broken, though
    they have nothing to do with the pixels.
    """
    try:
        exif = image.getexif()
    except Exception:  # as in `_orientation`; what was read until then is there
        exif = image.getexif()
    for tag in list(exif):
        if tag != _ORIENTATION:
            del exif[tag]
    image.info.pop("xmp", None)


def _orientation(image: Image.Image) -> object:
    """Read the EXIF orientation, and nothing else of the EXIF block: its other tags may be broken.

    Returns:
        A key of `_TURNS` for an image that is not upright. Cameras and editors write blocks that
        Pillow cannot read; their images are taken as they lie.
    """
    try:
        value: object = image.getexif().get(_ORIENTATION)
        hash(value)
    except Exception:  # what a broken block raises is of many kinds, as with decoders
        return None
    return value


_LIMIT = f"at most {MAX_PIXELS:,} pixels are taken; make it smaller"


def _check(image: Image.Image) -> None:
    """Refuse an image that would be too large or too dangerous to decode.

    Only its header has been read so far.
    """
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"too large an image ({width} x {height}); {_LIMIT}")
    if image.format == "EPS":  # Pillow would run it in Ghostscript
        raise ImageError("not a readable image (EPS is a program, not an image)")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Keep the upper 8 of 16 bits; Pillow's own conversion clips at 255 instead."""
    values = np.asarray(image)
    if image.mode == "I" and values.max() < 256:  # 32 bits wide, but with 8 used
        return image
    transparent = image.info.get("transparency")
    grey = Image.fromarray(np.clip(values >> 8, 0, 255).astype(np.uint8))
    if isinstance(transparent, int):  # the grey value that is transparent
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def to_pixels(image: Image.Image, spec: ImageSpec) -> npt.NDArray[np.uint8]:
    """Resize an image and keep its centre, as `spec` says.

    Only the part that is kept is resized: a panorama takes no longer than a square.

    Returns:
        UINT8 `[3, size, size]`, RGB, not normalised: the image tower does that.
    """
    image = image.resize(
        (spec.size, spec.size),
        _RESAMPLING[spec.interpolation],
        box=_kept_box(image.size, spec),
        # Lets Pillow shrink a large photo in cheap whole steps first; other libraries do not.
        reducing_gap=3.0 if spec.fit == "window" else None,
    )
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))


def _kept_box(shape: tuple[int, int], spec: ImageSpec) -> tuple[float, float, float, float]:
    """Return the box of an image of `shape` (width, height) that becomes the pixels."""
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
    # Resizing the whole image and cutting it then gives the same pixels.
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
    """Decode and preprocess one image to UINT8 `[3, size, size]`.

    Raises:
        ImageError: as `open_image`.
    """
    least = _REDUCED_GAP * spec.resize
    return to_pixels(open_image(source, name=name, least=least), spec)
