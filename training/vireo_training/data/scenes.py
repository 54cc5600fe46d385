"""Generated images with Vietnamese captions: a data set anybody can make, and check by eye.

A scene is a background with one or two groups of things. A group has a kind, a colour, a size, a
count and a place; the captions say all of it, in several phrasings with natural word order, so that
the right image is the only right answer. Scenes are written as ordinary image files plus
`captions.jsonl`, and so go through the reader that real photos go through.

Train and test never share a *combination* (the kinds and colours of all groups with the
background), and some kind-colour pairs (`UNSEEN_PAIRS`) are in no training image at all: a test
scene is only found by a model that composes what it learnt.
"""

from __future__ import annotations

import json
import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw
from vireo_client.files import replacing_file

Point = tuple[float, float]
Rgb = tuple[int, int, int]
Painter = Callable[[ImageDraw.ImageDraw, float, float, float, Rgb], None]

IMAGE_SIZE = 96
_SUPERSAMPLE = 3
_WAITING = 32
"""Drawings that may wait to be saved: each takes a quarter of a megabyte."""

# Vietnamese names: kinds carry their classifier ("con" for animals, "ngôi" for houses and stars).
COLOURS: dict[str, Rgb] = {
    "đỏ": (214, 40, 40),
    "vàng": (250, 215, 30),
    "xanh dương": (30, 80, 220),
    "xanh lá": (20, 120, 40),
    "tím": (140, 50, 170),
    "cam": (250, 130, 20),
    "hồng": (255, 130, 190),
    "đen": (25, 25, 25),
}
BACKGROUNDS: dict[str, Rgb] = {
    "bãi cỏ": (150, 210, 110),
    "bãi cát": (236, 216, 170),
    "nền trời xanh": (165, 215, 245),
    "nền tuyết trắng": (246, 248, 250),
    "nền xám": (150, 150, 155),
}
COUNTS = {1: "một", 2: "hai", 3: "ba"}
SIZES = {"to": 1.0, "nhỏ": 0.52}
# Place of a group: its name in a caption, and the centre of its cell in a unit square.
PLACES: dict[str, Point] = {
    "bên trái": (0.25, 0.5),
    "bên phải": (0.75, 0.5),
    "phía trên": (0.5, 0.25),
    "phía dưới": (0.5, 0.75),
}
_OPPOSITE = {"bên trái": "bên phải", "phía trên": "phía dưới"}


def _polygon(
    draw: ImageDraw.ImageDraw, x: float, y: float, r: float, pts: list[Point], c: Rgb
) -> None:
    draw.polygon([(x + r * px, y + r * py) for px, py in pts], fill=c)


def _shade(colour: Rgb, factor: float) -> Rgb:
    r, g, b = (max(0, min(255, round(v * factor))) for v in colour)
    return r, g, b


def _ball(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, c: Rgb) -> None:
    draw.ellipse([x - r, y - r, x + r, y + r], fill=c)
    draw.arc(
        [x - r * 0.6, y - r * 0.6, x + r * 0.6, y + r * 0.6],
        200,
        290,
        fill="white",
        width=max(2, int(r / 6)),
    )


def _house(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, c: Rgb) -> None:
    draw.rectangle([x - r * 0.75, y - r * 0.15, x + r * 0.75, y + r], fill=c)
    _polygon(draw, x, y, r, [(-1, -0.15), (0, -1), (1, -0.15)], _shade(c, 0.7))
    draw.rectangle([x - r * 0.2, y + r * 0.35, x + r * 0.2, y + r], fill=(240, 235, 220))


def _star(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, c: Rgb) -> None:
    angles = [(-math.pi / 2 + i * math.pi / 5, 1.0 if i % 2 == 0 else 0.42) for i in range(10)]
    _polygon(draw, x, y, r, [(k * math.cos(a), k * math.sin(a)) for a, k in angles], c)


def _fish(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, c: Rgb) -> None:
    draw.ellipse([x - r, y - r * 0.5, x + r * 0.5, y + r * 0.5], fill=c)
    _polygon(draw, x, y, r, [(0.35, 0), (1, -0.55), (1, 0.55)], _shade(c, 0.8))
    draw.ellipse([x - r * 0.72, y - r * 0.2, x - r * 0.5, y + r * 0.02], fill="white")


def _flower(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, c: Rgb) -> None:
    for i in range(6):
        a = i * math.pi / 3
        px, py, q = x + r * 0.6 * math.cos(a), y + r * 0.6 * math.sin(a), r * 0.38
        draw.ellipse([px - q, py - q, px + q, py + q], fill=c)
    q = r * 0.3
    draw.ellipse([x - q, y - q, x + q, y + q], fill=(255, 250, 225))


def _boat(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, c: Rgb) -> None:
    _polygon(draw, x, y, r, [(-1, 0.35), (1, 0.35), (0.6, 0.95), (-0.6, 0.95)], c)
    _polygon(draw, x, y, r, [(-0.05, 0.2), (-0.05, -1), (-0.75, 0.2)], _shade(c, 0.85))
    _polygon(draw, x, y, r, [(0.08, 0.2), (0.08, -0.8), (0.65, 0.2)], _shade(c, 1.15))


def _car(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, c: Rgb) -> None:
    draw.rounded_rectangle([x - r, y - r * 0.15, x + r, y + r * 0.45], r * 0.15, fill=c)
    _polygon(draw, x, y, r, [(-0.6, -0.1), (-0.35, -0.55), (0.35, -0.55), (0.65, -0.1)], c)
    _polygon(
        draw,
        x,
        y,
        r,
        [(-0.42, -0.14), (-0.26, -0.44), (0.26, -0.44), (0.45, -0.14)],
        (225, 240, 250),
    )
    for wheel in (-0.5, 0.5):
        q = r * 0.22
        draw.ellipse(
            [x + r * wheel - q, y + r * 0.45 - q, x + r * wheel + q, y + r * 0.45 + q],
            fill=(60, 60, 60),
        )


def _heart(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, c: Rgb) -> None:
    steps = [i * math.pi / 20 for i in range(40)]
    pts = [
        (
            math.sin(t) ** 3,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 17,
        )
        for t in steps
    ]
    _polygon(draw, x, y, r, pts, c)


KINDS: dict[str, Painter] = {
    "quả bóng": _ball,
    "ngôi nhà": _house,
    "ngôi sao": _star,
    "con cá": _fish,
    "bông hoa": _flower,
    "chiếc thuyền": _boat,
    "chiếc ô tô": _car,
    "hình trái tim": _heart,
}
# Kind-colour pairs that only test scenes show.
UNSEEN_PAIRS = frozenset(
    {("con cá", "tím"), ("ngôi nhà", "hồng"), ("ngôi sao", "xanh lá"), ("chiếc ô tô", "vàng")}
)


@dataclass(frozen=True, slots=True)
class Group:
    """Things of one kind: `count` of them, all of one colour and size, in one place."""

    kind: str
    colour: str
    size: str
    count: int
    place: str


@dataclass(frozen=True, slots=True)
class Scene:
    """One or two groups before a background."""

    groups: tuple[Group, ...]
    background: str

    @property
    def combination(self) -> str:
        """Kinds and colours of all groups and the background; train and test never share one."""
        things = sorted(f"{g.kind} {g.colour}" for g in self.groups)
        return " | ".join([*things, self.background])

    @property
    def shows_unseen_pair(self) -> bool:
        return any((g.kind, g.colour) in UNSEEN_PAIRS for g in self.groups)


def _random_scene(rng: random.Random) -> Scene:
    def group(place: str) -> Group:
        return Group(
            rng.choice(list(KINDS)), rng.choice(list(COLOURS)), rng.choice(list(SIZES)),
            rng.choice(list(COUNTS)), place,
        )  # fmt: skip

    if rng.random() < 0.25:
        groups: tuple[Group, ...] = (group(rng.choice(list(PLACES))),)
    else:
        first = rng.choice(list(_OPPOSITE))
        groups = (group(first), group(_OPPOSITE[first]))
    return Scene(groups, rng.choice(list(BACKGROUNDS)))


def _is_test_combination(scene: Scene) -> bool:
    """Return whether the scene is of the test split: a fixed tenth, the same for every seed."""
    return scene.shows_unseen_pair or random.Random(scene.combination).random() < 0.1


def generate_scenes(split: str, count: int, seed: int) -> Iterator[Scene]:
    """Yield `count` different scenes of `split` ("train" or "test"), the same for one seed."""
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}; it must be 'train' or 'test'")
    rng = random.Random(f"{split}-{seed}")
    seen: set[Scene] = set()
    while len(seen) < count:
        scene = _random_scene(rng)
        if scene not in seen and _is_test_combination(scene) == (split == "test"):
            seen.add(scene)
            yield scene


def render(scene: Scene, rng: random.Random) -> Image.Image:
    """Draw `scene` in RGB, with jitter in place, size, shade and light; three times too large."""
    side = IMAGE_SIZE * _SUPERSAMPLE
    light = rng.uniform(0.94, 1.04)
    image = Image.new("RGB", (side, side), _shade(BACKGROUNDS[scene.background], light))
    draw = ImageDraw.Draw(image)
    if scene.background in ("bãi cỏ", "bãi cát"):  # blades or grains, so that it is no plain colour
        for _ in range(160):
            x, y = rng.uniform(0, side), rng.uniform(0, side)
            tone = _shade(BACKGROUNDS[scene.background], light * rng.uniform(0.82, 0.94))
            length = side * (0.03 if scene.background == "bãi cỏ" else 0.006)
            draw.line([x, y, x + rng.uniform(-2, 2), y - length], fill=tone, width=3)
    for group in scene.groups:
        alone = len(scene.groups) == 1
        across = group.place in (
            "phía trên",
            "phía dưới",
        )  # the cell is wide, so things stand in a row
        cx, cy = PLACES[group.place]
        # Three large things must fit the long side of half an image.
        radius = side * 0.135 * SIZES[group.size] * rng.uniform(0.93, 1.07)
        step = side * 0.30 * (1 if group.size == "to" else 0.75)
        for i in range(group.count):
            along = (i - (group.count - 1) / 2) * step + rng.uniform(-0.01, 0.01) * side
            aside = rng.uniform(-0.045, 0.045) * side * (1.2 if alone else 1.0)
            dx, dy = (along, aside) if across else (aside, along)
            colour = _shade(COLOURS[group.colour], rng.uniform(0.92, 1.06))
            KINDS[group.kind](draw, side * cx + dx, side * cy + dy, radius, colour)
    return image


def _save(drawing: Image.Image, path: Path) -> None:
    image = drawing.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.LANCZOS)
    # A stronger compression takes as long as the drawing, for files a tenth smaller.
    image.save(path, compress_level=1)


def captions_of(scene: Scene, rng: random.Random) -> list[str]:
    """Return four different phrasings, each of which says everything the scene holds."""

    def thing(g: Group, *, spelled: bool) -> str:
        # "hai con cá nhỏ màu đỏ" and "hai con cá đỏ nhỏ" are both natural.
        tail = f"{g.size} màu {g.colour}" if spelled else f"{g.colour} {g.size}"
        return f"{COUNTS[g.count]} {g.kind} {tail}"

    def joined(pattern: str, separator: str, *, spelled: bool, groups: tuple[Group, ...]) -> str:
        return separator.join(
            pattern.format(thing=thing(g, spelled=spelled), place=g.place) for g in groups
        )

    ground = scene.background
    before = f"trên {ground}"
    ordered, swapped = scene.groups, tuple(reversed(scene.groups))
    named = joined("{place} là {thing}", ", còn ", spelled=True, groups=swapped)
    lying = joined("{thing} nằm {place}", ", ", spelled=False, groups=swapped)
    phrasings = [
        f"{joined('{thing} ở {place}', ' và ', spelled=True, groups=ordered)} {before}.",
        f"{before}, {joined('{place} có {thing}', ', ', spelled=False, groups=ordered)}.",
        f"Có {joined('{thing} {place}', ' và ', spelled=False, groups=swapped)}, {before}.",
        f"Bức ảnh {ground}: {named}.",
        f"{lying}, phía sau là {ground}.",
        f"{joined('{place} là {thing}', ' và ', spelled=False, groups=ordered)}, cảnh {before}.",
    ]
    return [text[0].upper() + text[1:] for text in rng.sample(phrasings, 4)]


def short_captions(scene: Scene, rng: random.Random, count: int = 3) -> list[str]:
    """Return phrasings that leave things out, as queries do: "con cá tím", "ba ngôi sao trên cát".

    They are true of the scene and may be true of others, so only training images carry them: a
    test caption has one right image.
    """
    return [_short_caption(scene, rng) for _ in range(count)]


def _short_caption(scene: Scene, rng: random.Random) -> str:
    groups = list(scene.groups)
    rng.shuffle(groups)
    phrases = []
    for group in groups[: rng.choice((1, 1, 2))]:
        number = COUNTS[group.count] if rng.random() < 0.6 else "những" if group.count > 1 else ""
        size = group.size if rng.random() < 0.35 else ""
        colour = rng.choice((f"màu {group.colour}", group.colour))
        # Size stands before "màu ..." and after a bare colour.
        qualities = f"{size} {colour}" if colour.startswith("màu") else f"{colour} {size}"
        place = rng.choice(("", "", group.place, f"ở {group.place}"))
        phrases.append(" ".join(f"{number} {group.kind} {qualities} {place}".split()))
    phrase = rng.choice((" và ", ", ")).join(phrases)
    if rng.random() < 0.35:
        phrase = rng.choice(
            (f"{phrase} trên {scene.background}", f"trên {scene.background} có {phrase}")
        )
    return phrase


def query_for(scene: Scene) -> str:
    """Describe a scene as somebody might ask for it, in a phrasing that no caption uses."""
    things = " với ".join(
        f"{COUNTS[g.count]} {g.kind} {g.size} {g.colour} nằm {g.place}" for g in scene.groups
    )
    return f"tìm hình có {things}, nền là {scene.background}"


def write_scenes(folder: Path, split: str, count: int, seed: int) -> Path:
    """Write `count` scenes of `split` below `folder`: PNG files and `captions.jsonl`.

    Each line is `{"image", "captions", "scene"}`; readers need the first two, `scene` tells a
    person or a test what was drawn. The captions file is written last, so an interrupted run leaves
    no folder that looks whole.

    Returns:
        The path of `captions.jsonl`.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"render-{split}-{seed}")
    lines = []
    # Drawing holds the interpreter's lock, what comes after it does not.
    with ThreadPoolExecutor() as pool:
        saving: deque[Future[None]] = deque()
        for i, scene in enumerate(generate_scenes(split, count, seed)):
            name = f"images/{split}_{i:05d}.png"
            saving.append(pool.submit(_save, render(scene, rng), folder / name))
            if len(saving) > _WAITING:
                saving.popleft().result()
            groups = [
                {"kind": g.kind, "colour": g.colour, "size": g.size, "count": g.count,
                 "place": g.place}
                for g in scene.groups
            ]  # fmt: skip
            described = {"groups": groups, "background": scene.background}
            captions = captions_of(scene, rng)
            if split == "train":
                captions += short_captions(scene, rng)
            lines.append({"image": name, "captions": captions, "scene": described})
        for saved in saving:
            saved.result()
    path = folder / "captions.jsonl"
    with replacing_file(path) as file:
        file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
    return path
