import io
import struct
import unicodedata
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps
from PIL.PngImagePlugin import PngImageFile
from vireo_client import images
from vireo_client.bundle import ImageSpec
from vireo_client.errors import ImageError
from vireo_client.folders import find_images, scan_folder
from vireo_client.images import load_pixels, open_image, to_pixels

SPEC = ImageSpec(size=32, resize=40, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def _encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_path_bytes_and_image_give_the_same_pixels(photo):
    path = photo()
    from_path = load_pixels(path, SPEC)
    assert from_path.shape == (3, 32, 32)
    assert from_path.dtype == np.uint8
    assert np.array_equal(from_path, load_pixels(str(path), SPEC))
    assert np.array_equal(from_path, load_pixels(path.read_bytes(), SPEC))
    assert np.array_equal(from_path, load_pixels(Image.open(path), SPEC))


def test_the_short_side_is_resized_and_the_centre_kept():
    wide = Image.new("RGB", (200, 40), "red")
    wide.paste("blue", (80, 0, 120, 40))  # the centre 40 x 40
    pixels = to_pixels(wide, SPEC)
    assert (pixels[2] == 255).all()
    assert (pixels[0] == 0).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (33, 41)])
def test_any_shape_of_image_gives_the_size_of_the_spec(size):
    assert to_pixels(Image.new("RGB", size), SPEC).shape == (3, 32, 32)


def _noise(width, height):
    return Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    )


def _direct(image, size, crop):
    """Resizes the whole image, then cuts it: what the other libraries do."""
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC).crop(crop)).transpose(2, 0, 1)


def test_the_window_is_as_it_was():
    """What existing bundles were trained on, to the byte."""
    image = _noise(301, 207)
    side = 207 * 32 / 40
    box = ((301 - side) / 2, (207 - side) / 2, (301 + side) / 2, (207 + side) / 2)
    expected = image.resize((32, 32), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    assert np.array_equal(to_pixels(image, SPEC), np.asarray(expected).transpose(2, 0, 1))


@pytest.mark.parametrize(("offset", "left"), [("floor", 3), ("round", 4)])
def test_the_short_side_becomes_whole_pixels_first(offset, left):
    spec = SPEC.model_copy(update={"fit": "shortest", "resize": 32, "offset": offset})
    image = _noise(90, 73)  # 39 x 32 once resized: 7 columns too many
    expected = _direct(image, (39, 32), (left, 0, left + 32, 32))
    assert np.abs(to_pixels(image, spec).astype(int) - expected).max() <= 1
    turned = _direct(image.transpose(Image.Transpose.TRANSPOSE), (32, 39), (0, left, 32, left + 32))
    pixels = to_pixels(image.transpose(Image.Transpose.TRANSPOSE), spec)
    assert np.abs(pixels.astype(int) - turned).max() <= 1


def test_an_image_can_be_squashed():
    image = _noise(90, 73)
    spec = SPEC.model_copy(update={"fit": "squash", "resize": 32})
    assert np.array_equal(to_pixels(image, spec), _direct(image, (32, 32), (0, 0, 32, 32)))
    cut = SPEC.model_copy(update={"fit": "squash"})
    expected = _direct(image, (40, 40), (4, 4, 36, 36))
    assert np.abs(to_pixels(image, cut).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("fit", ["shortest", "squash"])
@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (32, 32)])
def test_no_shape_of_image_is_too_long_for_a_fit(fit, size):
    """Only the part that stays is ever resized: the whole would take gigabytes here."""
    spec = SPEC.model_copy(update={"fit": fit})
    assert to_pixels(Image.new("RGB", size, "red"), spec)[0].min() == 255


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (64, 64), "black")
    image.paste("white", (0, 0, 64, 32))  # white above
    exif = Image.Exif()
    exif[0x0112] = 3  # turned upside down
    upright = open_image(_encoded(image, "JPEG", exif=exif))
    assert upright.getpixel((32, 8)) < (50, 50, 50)
    assert upright.getpixel((32, 56)) > (200, 200, 200)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16", "1"])
def test_every_mode_becomes_rgb(mode):
    image = Image.new("RGB", (8, 8), "white").convert(mode if mode != "I;16" else "I")
    assert open_image(image.convert(mode)).mode == "RGB"


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_of_sixteen_bits_the_upper_eight_are_kept(kind):
    values = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    turned = Image.Exif()
    turned[0x0112] = 3
    data = _encoded(Image.fromarray(values), kind, exif=turned)
    seen = np.asarray(open_image(data))
    assert (seen == (values >> 8)[::-1, ::-1, None]).all()


def test_a_grey_value_of_sixteen_bits_can_be_transparent():
    values = np.full((8, 8), 1000, dtype=np.uint16)
    values[4, 4] = 30_000
    data = _encoded(Image.fromarray(values), "PNG", transparency=1000)
    assert open_image(data).getpixel((0, 0)) == (255, 255, 255)
    assert open_image(data).getpixel((4, 4)) == (117, 117, 117)


def test_32_bits_wide_images_are_taken_by_what_they_hold():
    assert open_image(Image.new("I", (8, 8), 200)).getpixel((0, 0)) == (200, 200, 200)
    assert open_image(Image.new("I", (8, 8), 51_200)).getpixel((0, 0)) == (200, 200, 200)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_print_colours_become_screen_colours(kind):
    data = _encoded(Image.new("RGB", (32, 32), (200, 30, 60)).convert("CMYK"), kind)
    assert np.abs(np.array(open_image(data).getpixel((16, 16))) - (200, 30, 60)).max() <= 4


def test_transparency_is_laid_on_white():
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert open_image(_encoded(clear, "PNG")).getpixel((4, 4)) == (255, 255, 255)


def test_the_first_frame_of_an_animation_counts():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert open_image(data).getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xd8\xff\xe0 no more"])
def test_what_is_no_image_is_an_error_that_names_it(tmp_path, content):
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"bad\.jpg: not a readable image"):
        open_image(path)


def test_a_truncated_image_is_an_error(photo, tmp_path):
    whole = photo(size=(400, 300)).read_bytes()
    path = tmp_path / "half.jpg"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"half\.jpg"):
        open_image(path)


def test_a_missing_image_is_an_error(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.jpg: no such file"):
        open_image(tmp_path / "gone.jpg")


def test_a_number_is_no_image_and_closes_no_file(tmp_path):
    """`open` would take it for a file that is open already."""
    with open(tmp_path / "open", "wb") as file:
        for source in (file.fileno(), None, 1.5, bytearray(b"x")):
            with pytest.raises(ImageError, match=r"of type (int|NoneType|float|bytearray); give"):
                open_image(source)
        file.write(b"still open")


@pytest.mark.parametrize("size", [(20_000, 20_000), (12_000, 10_001)])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(size, monkeypatch):
    """The first is beyond Pillow's own limit, the second beyond ours alone."""
    data = _encoded(Image.new("1", size), "PNG")
    monkeypatch.setattr(PngImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"huge\.png: too large an image.* make it smaller"):
        open_image(data, name="huge.png")


def test_an_image_within_the_limit_gives_no_warning(tmp_path):
    """Pillow warns from 89 million pixels on; phones make larger photos."""
    path = tmp_path / "large.png"
    Image.new("1", (10_000, 9_500)).save(path)
    with warnings.catch_warnings(record=True) as caught, ThreadPoolExecutor(2) as pool:
        warnings.simplefilter("always")
        sizes = list(pool.map(lambda source: open_image(source).size, [path, path.read_bytes()]))
    assert sizes == [(10_000, 9_500)] * 2
    assert caught == []


def test_a_plugin_that_another_library_registered_is_used(tmp_path):
    class Flag(ImageFile.ImageFile):
        format = "VIREO-FLAG"

        def _open(self):
            self._size, self._mode = (4, 2), "RGB"
            self.tile = [("raw", (0, 0, 4, 2), 4, ("RGB", 0, 1))]

    Image.register_open(Flag.format, Flag, lambda prefix: prefix.startswith(b"flag"))
    try:
        assert open_image(b"flag" + b"\xff\x00\x00" * 8).getpixel((3, 1)) == (255, 0, 0)
    finally:
        Image.ID.remove(Flag.format)
        del Image.OPEN[Flag.format]


def test_a_program_that_draws_is_no_image():
    with pytest.raises(ImageError, match="EPS is a program"):
        open_image(_encoded(Image.new("RGB", (8, 8)), "EPS"))


@pytest.mark.parametrize(("content", "why"), [(b"", "no bytes at all"), (b"zz", "no format that")])
def test_what_is_wrong_is_said_of_bytes_too(content, why):
    with pytest.raises(ImageError, match=rf"image 3: not a readable image \({why}"):
        open_image(content, name="image 3")


def test_images_are_found_sorted_and_hidden_ones_left_out(tmp_path, photo):
    name = unicodedata.normalize("NFD", "ảnh đẹp.JPG")
    for wanted in (name, "b/c.png", "a.webp"):
        photo(wanted)
    photo(".cache/x.png")
    (tmp_path / "notes.txt").write_text("x")
    found = [str(p.relative_to(tmp_path)) for p in find_images(tmp_path)]
    assert found == sorted([name, "b/c.png", "a.webp"])


SIX = np.asarray(Image.fromarray(np.arange(180, dtype=np.uint8).reshape(6, 10, 3)))
"""An image that lies; upright, by orientation 6, it is 6 wide and 10 high."""
TAGS = (0x010F, 0x0110, 0x011A, 0x0128, 0x0131, 0x0132, 0x013B, 0x014A, 0x0201, 0x0211, 0x0213,
        0x02BC, 0x8298, 0x8769, 0x8773, 0x8825, 0x9003, 0x9286, 0xA005, 0xC4A5)  # fmt: skip


def _exif(tag, kind, count=1):
    """An EXIF block with orientation 6, and one tag of a type that need not be its own."""
    entries = sorted([(0x0112, 3, 1, b"\6\0\0\0"), (tag, kind, count, b"\1\2\3\4")])
    packed = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow says what it met
@pytest.mark.parametrize("file_kind", ["JPEG", "PNG", "WEBP"])
def test_a_mistyped_tag_keeps_no_image_from_being_read(file_kind):
    turned = 0
    for tag in TAGS:
        for kind in range(16):
            data = _encoded(Image.fromarray(SIX), file_kind, exif=_exif(tag, kind))
            turned += open_image(data).size == (6, 10)
    # Where the tags that precede the orientation point behind the block's end, it cannot be read.
    assert turned >= len(TAGS) * 16 - 6


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_mistyped_tag_keeps_no_tiff_from_being_read(compression):
    sound = _encoded(
        Image.fromarray(SIX), "TIFF", compression=compression, tiffinfo={0x0112: 6, 700: b"abcd"}
    )
    upright = np.rot90(SIX, -1)
    place = sound.index(struct.pack("<H", 700))
    for tag in (*TAGS, 700):
        for kind in range(16):
            for count in (1, 4, 1000):
                entry = struct.pack("<HHI", tag, kind, count) + b"\1\2\3\4"
                data = sound[:place] + entry + sound[place + 12 :]
                assert np.array_equal(np.asarray(open_image(data)), upright)


def test_a_damaged_tiff_is_refused_though_its_tags_are_broken_too():
    data = _encoded(_noise(64, 64), "TIFF", compression="tiff_lzw", tiffinfo={700: b"abcd"})
    place = data.index(struct.pack("<H", 700))
    strip = data.index(struct.pack("<HH", 0x0111, 4))
    (start,) = struct.unpack("<I", data[strip + 8 : strip + 12])
    data = data[:place] + struct.pack("<HHI", 700, 3, 1) + b"\1\2\3\4" + data[place + 12 :]
    data = data[:start] + b"\xff" * 2000 + data[start + 2000 :]
    with pytest.raises(ImageError, match="not a readable image"):
        open_image(data)


@pytest.mark.parametrize("file_kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "block", [b"ASCII\0\0\0no tags", b"Exif\0\0zz", b"II*\0", b"Exif\0\0", b"x"]
)
def test_an_exif_block_that_is_no_tiff_leaves_the_image_as_it_lies(file_kind, block):
    options = {"lossless": True} if file_kind == "WEBP" else {}
    plain = _encoded(Image.fromarray(SIX), file_kind, **options)
    data = _encoded(Image.fromarray(SIX), file_kind, exif=block, **options)
    assert np.array_equal(np.asarray(open_image(data)), np.asarray(open_image(plain)))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "I;16", "1"])
@pytest.mark.parametrize("file_kind", ["PNG", "TIFF"])
def test_every_orientation_is_turned_as_pillow_does(mode, file_kind):
    values = np.random.default_rng(0).integers(0, 65535, (6, 10), dtype=np.uint16)
    grey = Image.fromarray(values)
    image = grey if mode == "I;16" else _noise(10, 6).convert(mode)
    for number in range(10):
        exif = Image.Exif()
        exif[0x0112] = number
        data = _encoded(image, file_kind, exif=exif)
        upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
        if mode == "I;16":
            upright = (upright >> 8).astype(np.uint8)
        elif mode in ("RGBA", "LA", "P"):
            upright = np.asarray(open_image(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
        got = np.asarray(open_image(data))
        assert np.array_equal(got, np.asarray(Image.fromarray(upright).convert("RGB")))


def test_what_pillow_reads_is_found_whatever_its_suffix_says(tmp_path):
    image = _noise(16, 16)
    kinds = {"a.jfif": "JPEG", "b.jpe": "JPEG", "c.jp2": "JPEG2000", "d.avif": "AVIF",
             "e.HEIC": "JPEG", "f": "PNG", "g.foto": "WEBP", "h.mpo": "MPO"}  # fmt: skip
    for name, kind in kinds.items():
        (tmp_path / name).write_bytes(_encoded(image, kind))
    for name in ("a.mp4", "b.mov", "c.nef", "d.json", "e.unknown", "notes"):
        (tmp_path / name).write_bytes(b"text")
    found = scan_folder(tmp_path)
    assert [path.name for path in found.images] == [
        "a.jfif", "b.jpe", "c.jp2", "d.avif", "e.HEIC", "f", "g.foto", "h.mpo"
    ]  # fmt: skip
    for path in found.images:
        assert open_image(path).size == (16, 16)
    assert found.describe_others() == "3 other files, 1 raw photos, 2 videos"


def test_a_photo_in_heif_is_read_or_says_what_reads_it(tmp_path):
    path = tmp_path / "x.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0heicmif1")
    with pytest.raises(ImageError, match=r"x\.heic: .*(install 'vireo\[heif\]'|damaged)"):
        open_image(path)


def test_links_are_followed_once(tmp_path, photo):
    photo("in/deep/a.png")
    photo("outside/b.png")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/again").symlink_to(tmp_path / "in/deep")
    (tmp_path / "in/linked").symlink_to(tmp_path / "outside")
    (tmp_path / "in/twice").symlink_to(tmp_path / "outside")
    (tmp_path / "in/dead.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "outside/back").symlink_to(tmp_path / "in")
    found = scan_folder(tmp_path / "in")
    names = [str(path.relative_to(tmp_path / "in")) for path in found.images]
    assert names == ["deep/a.png", "linked/b.png"]
    (skip,) = found.skipped
    assert "dead.png: a link to nothing" in str(skip)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_at_a_reduced_scale(orientation, monkeypatch, tmp_path):
    rows = np.linspace(0, 255, 600)[:, None] + np.linspace(0, 255, 800)[None]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.jpg"
    Image.fromarray((rows / 2).astype(np.uint8)).convert("RGB").save(path, quality=95, exif=exif)
    whole = load_pixels(path, SPEC)
    decoded, to_rgb = [], images._to_rgb
    monkeypatch.setattr(
        images, "_to_rgb", lambda image: decoded.append(image.size) or to_rgb(image)
    )
    monkeypatch.setattr(images, "REDUCED_PIXELS", 600 * 800 - 1)
    for source in (path, path.read_bytes()):
        assert np.abs(load_pixels(source, SPEC).astype(int) - whole).max() <= 2
    assert decoded == [(200, 150)] * 2  # a quarter: an eighth has less than 3 x 40 a side
    assert open_image(path).size in (
        (800, 600),
        (600, 800),
    )  # nothing is lost where no size is said


def test_the_work_of_decoding_is_read_from_the_header():
    def work(size, kind, **options):
        return images.decoding_work(_encoded(Image.new("RGB", size), kind, **options))

    assert work((30, 20), "PNG") == work((30, 20), "JPEG") == work((30, 20), "WEBP") == 600
    assert work((300, 200), "JPEG", progressive=True) == 60_000
    assert images.decoding_work(b"") == images.decoding_work(b"abc") == 0
