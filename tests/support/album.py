"""An album to look at: landscapes of several shapes, in folders, by cameras, with captions."""

from __future__ import annotations

import json
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

_FOLDERS = ("", "2023/Huế/", "2024/Đà Lạt/", "2024/Phố cổ/")
_CAMERAS = (("Vireo", "Cam 1"), ("Vireo", "Cam 2"), None)
_SHAPES = ((480, 320), (320, 440), (400, 400), (560, 300))
_SKIES = (("#f6b98a", "chiều"), ("#8ec5e8", "sáng"), ("#2b3a67", "đêm"), ("#c9d6df", "mù sương"))
_HILLS = (("#355e3b", "đồi xanh"), ("#7b5e57", "núi đá"), ("#c2a35b", "đồng lúa"))


def draw(path: Path, seed: int, camera: tuple[str, str] | None = None, taken: str = "") -> None:
    """Draw one landscape."""
    chance = random.Random(seed)
    width, height = _SHAPES[seed % len(_SHAPES)]
    image = Image.new("RGB", (width, height), _SKIES[seed % len(_SKIES)][0])
    brush = ImageDraw.Draw(image)
    x, y, r = chance.randrange(width), chance.randrange(height // 2), height // 10
    brush.ellipse((x - r, y - r, x + r, y + r), fill="#fff3c9")
    for layer in range(3):
        top = height * (4 + 2 * layer) // 10
        ridge = [(i * width // 8, top + chance.randrange(-30, 30)) for i in range(9)]
        shade = Image.new("RGB", (1, 1), _HILLS[(seed + layer) % len(_HILLS)][0]).getpixel((0, 0))
        dim = tuple(max(0, part - 22 * layer) for part in shade)
        brush.polygon([(0, height), *ridge, (width, height)], fill=dim)
    exif = Image.Exif()
    if camera:
        exif[0x010F], exif[0x0110] = camera
        exif.get_ifd(0x8769)[0x9003] = taken
    path.parent.mkdir(parents=True, exist_ok=True)
    image.filter(ImageFilter.GaussianBlur(0.6)).save(path, exif=exif)


def write_album(folder: Path, images: int = 40, first: int = 0) -> Path:
    """Write an album with a captions file; the image with number n is `anh-n.jpg`."""
    records = []
    for number in range(first, first + images):
        name = f"{_FOLDERS[number % len(_FOLDERS)]}anh-{number}.jpg"
        taken = f"{2023 + number % 2}:{1 + number % 12:02}:15 08:30:00"
        draw(folder / name, number, _CAMERAS[number % len(_CAMERAS)], taken)
        sky, hill = _SKIES[number % len(_SKIES)][1], _HILLS[number % len(_HILLS)][1]
        captions = [f"{hill} buổi {sky} số {number}", f"phong cảnh {hill} lúc {sky}"]
        records.append(json.dumps({"image": name, "captions": captions}, ensure_ascii=False))
    (folder / "captions.jsonl").write_text("\n".join(records) + "\n", encoding="utf-8")
    return folder
