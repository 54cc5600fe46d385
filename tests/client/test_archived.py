"""Images within tars, by the paths that an index gives them."""

import io
import os
import tarfile
import tempfile

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner
from vireo_client.archived import _places, read_archived
from vireo_client.commands import prompt
from vireo_client.commands.index import index
from vireo_client.commands.search import search
from vireo_client.errors import ImageError
from vireo_client.images import open_image
from vireo_client.index import Match
from vireo_client.sheet import CELL, contact_sheet


def _write(path, members, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def _png(colour):
    file = io.BytesIO()
    Image.new("RGB", (CELL, CELL), colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def shard(tmp_path):
    members = [("a/red.png", _png("red")), ("./xanh lá.png", _png("lime")), ("note.png", b"no"),
               ("empty.png", b""), ("a/red.png", _png("blue"))]  # fmt: skip
    return _write(tmp_path / "shard.tar", members)


def test_an_image_is_read_from_its_archive(shard):
    assert open_image(shard / "a" / "red.png").getpixel((0, 0)) == (255, 0, 0)
    assert open_image(f"{shard}/xanh lá.png").getpixel((0, 0)) == (0, 255, 0)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("shard.tar/none.png", "shard.tar/none.png: the archive shard.tar holds no such file"),
        ("gone.tar/a.png", "gone.tar/a.png: no such file"),
        ("shard.tar/note.png", "shard.tar/note.png: not a readable image"),
        ("shard.tar/empty.png", "shard.tar/empty.png: not a readable image"),
        ("photo.png/a.png", "the archive photo.png holds no such file"),
    ],
)
def test_what_is_not_there_is_named(shard, tmp_path, path, reason):
    (tmp_path / "photo.png").write_bytes(_png("red"))
    with pytest.raises(ImageError, match=reason):
        open_image(tmp_path / path)


def test_an_archive_that_changes_is_read_anew(shard, tmp_path):
    assert read_archived(shard / "a/red.png") == _png("red")
    other = _write(tmp_path / "other.tar", [("first.png", b"12"), ("a/red.png", _png("blue"))])
    os.replace(other, shard)
    assert read_archived(shard / "a/red.png") == _png("blue")


def test_a_damaged_archive_gives_what_lies_before(shard):
    data = shard.read_bytes()
    shard.write_bytes(data[:700])
    with pytest.raises(ImageError, match=r"the archive shard.tar (ends within it|holds no such)"):
        read_archived(shard / "a/red.png")
    whole = 512 + -(-len(_png("red")) // 512) * 512
    shard.write_bytes(data[:whole] + b"\xff" * 2048)
    assert read_archived(shard / "a/red.png") == _png("red")


def test_hits_of_one_archive_read_its_headers_once(shard):
    _places.cache_clear()
    hits = [Match(n, 0.5, f"{shard}/a/red.png") for n in range(1, 6)]
    colours = dict(map(reversed, contact_sheet([("đỏ", hits)]).getcolors(1 << 20)))
    assert colours[(255, 0, 0)] == 5 * CELL * CELL
    assert _places.cache_info().misses == 1


def test_a_hit_of_an_archive_is_opened_searched_by_and_drawn(
    shard, repository, tmp_path, monkeypatch
):
    app = typer.Typer()
    app.add_typer(index, name="index")
    app.command("search")(search)
    opened = []
    monkeypatch.setattr(prompt.typer, "launch", lambda path: opened.append(path) or 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    options = ["--index", str(tmp_path / "index"), "--model", str(repository.folder)]
    assert CliRunner().invoke(app, ["index", "add", str(shard), *options]).exit_code == 0
    lines = f":image {shard}/xanh lá.png\n:open 1\n:like 1\n:sheet {tmp_path}/sheet.png\n"
    result = CliRunner().invoke(app, ["search", *options], input=lines)
    assert result.exit_code == 0, result.output
    first, again = (line.split()[1] for line in result.stdout.splitlines()[::2])
    assert first == again == "1.000"
    assert [Image.open(path).getpixel((0, 0)) for path in opened] == [(0, 255, 0)]
    assert opened[0] in result.stderr
    pixels = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert (pixels == (255, 0, 0)).all(-1).any()
