import importlib.metadata
import json
import re
import shutil

import pytest
from typer.testing import CliRunner
from vireo_client import cli
from vireo_client.errors import DataError


@pytest.fixture
def vireo(monkeypatch):
    """Runs the whole command line with `data` registered as the distribution does it."""
    entry = importlib.metadata.EntryPoint("data", "vireo_training.commands.data:app", cli.COMMANDS)
    monkeypatch.setattr(cli, "entry_points", lambda group: [entry])
    app = cli.build_app()
    return lambda *arguments: CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture
def split(tmp_path, photo):
    """Writes a folder with captions.jsonl: images by file name, each a seed and captions."""

    def write(name, images, extra=""):
        lines = []
        for file, (seed, captions) in images.items():
            photo(f"{name}/{file}", seed=seed)
            lines.append(json.dumps({"image": file, "captions": captions}, ensure_ascii=False))
        path = tmp_path / name / "captions.jsonl"
        path.write_text("\n".join(lines) + "\n" + extra, encoding="utf-8")
        return tmp_path / name

    return write


def test_a_sound_set_is_counted(vireo, split):
    folder = split("x", {"a.jpg": (1, ["một con chó", "chó"]), "b.jpg": (2, ["hai con mèo đen"])})
    result = vireo("data", "check", folder)
    assert result.exit_code == 0
    assert re.search(r"images +2\n +captions +3\n", result.stdout)
    assert "captions per image    min 1, median 1.5, p95 1.95, max 2" in result.stdout
    assert "words per caption     min 1, median 3, p95 3.9, max 4" in result.stdout
    assert result.stdout.endswith("no problems found\n")


def test_faults_are_named_and_only_strict_fails(vireo, split):
    folder = split(
        "x",
        {"a.jpg": (1, ["một", "một"]), "b.jpg": (2, ["hai"]), "c.jpg": (1, ["ba"])},
        extra='{"image": "gone.jpg", "captions": ["x"]}\n',
    )
    data = (folder / "b.jpg").read_bytes()
    (folder / "b.jpg").write_bytes(data[: len(data) // 2])
    result = vireo("data", "check", folder)
    assert result.exit_code == 0
    assert f"{folder}/captions.jsonl:4: no such image" in result.stdout
    assert f"{folder}/b.jpg: not a readable" in result.stdout
    assert f"{folder}/a.jpg = {folder}/c.jpg" in result.stdout
    assert "1: repeats a caption" in result.stdout
    for warning in ("1 record(s) skipped", "1 unreadable image(s)", "1 image(s) with copies"):
        assert f"warning: data: {warning}" in result.stdout
    assert vireo("data", "check", folder, "--strict").exit_code == 1


def test_an_image_in_two_splits_fails_under_any_name(vireo, split):
    train = split("train", {"a.jpg": (1, ["một"]), "b.jpg": (2, ["hai"])})
    test = split("test", {"z.jpg": (3, ["ba"])})
    assert vireo("data", "check", "--train", train, "--test", test).exit_code == 0
    shutil.copy(train / "b.jpg", test / "z.jpg")
    result = vireo("data", "check", "--train", train, "--test", test)
    assert result.exit_code == 1
    assert f"{train}/b.jpg = {test}/z.jpg" in result.stdout
    assert "problem: train and test share 1 image(s)" in result.stdout


def test_captions_that_images_share_are_counted(vireo, split):
    """Equal but for white space and the place of a tone mark; case makes another text."""
    images = {
        "a.jpg": (1, ["một con cá", "biển"]),
        "b.jpg": (2, ["một  con cá"]),
        "c.jpg": (3, ["một con cá", "hoà bình", "Biển"]),
        "d.jpg": (4, ["hòa bình"]),
    }
    folder = split("x", images)
    result = vireo("data", "check", folder, "--strict")
    assert result.exit_code == 0  # ordinary in captions, and nothing to mend
    assert (
        "  shared captions       5 (71.4%): 2 text(s), each of several images: "
        "min 2, median 2.5, p95 2.95, max 3\n" in result.stdout
    )
    report = json.loads(vireo("data", "check", folder, "--json").stdout)
    assert report["splits"]["data"]["shared_captions"] == {
        "captions": 5, "share": 5 / 7, "texts": 2, "images_per_text": [2, 2.5, 2.95, 3],
    }  # fmt: skip


def test_a_caption_in_two_splits_is_a_warning(vireo, split):
    train = split("train", {"a.jpg": (1, ["Một con chó"])})
    validation = split("validation", {"b.jpg": (2, ["một  con chó", "khác"])})
    arguments = ("data", "check", "--train", train, "--validation", validation)
    result = vireo(*arguments)
    assert result.exit_code == 0
    assert "warning: train and validation share 1 caption(s)" in result.stdout
    assert vireo(*arguments, "--strict").exit_code == 1


def test_json_holds_everything(vireo, split):
    train = split("train", {"a.jpg": (1, ["một con"]), "b.jpg": (2, ["hai"])}, extra="{broken\n")
    test = split("test", {"a.jpg": (1, ["ba"])})
    result = vireo("data", "check", "--train", train, "--test", test, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["splits"]["train"]["pictures"] == 2
    assert report["splits"]["train"]["caption_words"] == [1, 1.5, 1.95, 2]
    assert report["splits"]["train"]["skipped"][0]["where"].endswith("captions.jsonl:3")
    assert report["overlaps"][0]["pictures"] == [[f"{train}/a.jpg", f"{test}/a.jpg"]]
    assert report["problems"] == ["train and test share 1 image(s): remove them from one split"]


def test_a_set_without_one_readable_image_fails(vireo, split):
    folder = split("x", {"a.jpg": (1, ["một"])})
    (folder / "a.jpg").write_bytes(b"no image")
    result = vireo("data", "check", folder)
    assert result.exit_code == 1
    assert "problem: data: no usable image" in result.stdout
    assert "words per caption     none" in result.stdout


def test_a_set_that_cannot_be_read_names_the_split(vireo, split, tmp_path):
    train = split("train", {"a.jpg": (1, ["một"])})
    result = vireo("data", "check", "--train", train, "--test", tmp_path / "gone.json")
    assert result.exit_code == 1
    assert isinstance(result.exception, DataError)
    assert str(result.exception).startswith("test: ")


def test_sources_are_joined_and_formats_forced(vireo, split, tmp_path):
    one = split("one", {"a.jpg": (1, ["một"])})
    split("two", {"b.jpg": (2, ["hai"])})
    other = tmp_path / "two.csv"
    other.write_text("image,caption\nb.jpg,hai\n", encoding="utf-8")
    result = vireo("data", "check", one, f"{other}@{tmp_path / 'two'}=2", "--json")
    assert json.loads(result.stdout)["splits"]["data"]["pictures"] == 2
    forced = vireo("data", "check", other, "--format", "coco")
    assert isinstance(forced.exception, DataError)


def test_nothing_to_check_is_a_usage_error(vireo):
    result = vireo("data", "check")
    assert result.exit_code == 2
    assert "name a SOURCE" in result.output


def test_help_shows_an_example(vireo):
    assert "Example: vireo data check --train" in " ".join(
        vireo("data", "check", "--help").output.replace("│", " ").split()
    )


def test_a_set_that_names_its_splits_is_checked_split_by_split(vireo, tmp_path, photo):
    photo("a.jpg", seed=1)
    photo("b.jpg", seed=2)
    photo("copy.jpg", seed=1)
    rows = (("a.jpg", "một", "train"), ("b.jpg", "hai", "restval"), ("copy.jpg", "ba", "test"))
    path = tmp_path / "x.csv"
    path.write_text("".join(",".join(row) + "\n" for row in (*rows, ("c.jpg", "x", "test"))))
    result = vireo("data", "check", path, "--columns", "image,caption,split", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert {name: part["pictures"] for name, part in report["splits"].items()} == {
        "train": 2,
        "test": 1,
    }
    assert report["problems"] == ["train and test share 1 image(s): remove them from one split"]
    assert sum(len(part["skipped"]) for part in report["splits"].values()) == 1


def test_of_data_for_one_split_only_what_is_named_so_counts(vireo, tmp_path, photo):
    photo("a.jpg", seed=1)
    photo("b.jpg", seed=2)
    path = tmp_path / "x.csv"
    path.write_text("image,caption,split\na.jpg,một,train\nb.jpg,hai,test\n")
    result = vireo("data", "check", "--train", path, "--test", path, "--json")
    report = json.loads(result.stdout)
    assert report["problems"] == []
    assert report["splits"]["train"]["left_out"] == {"is in the test split": 1}
    assert report["splits"]["test"]["pictures"] == 1
