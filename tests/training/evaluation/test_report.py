import dataclasses
import json
import re
import shutil
import sys
import unicodedata

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner
from vireo_client.embedder import Embedder
from vireo_client.errors import DataError, MissingExtraError
from vireo_training.commands.evaluate import compare, evaluate
from vireo_training.data.diacritics import strip_diacritics
from vireo_training.evaluation import compare as compare_module
from vireo_training.evaluation.compare import differences
from vireo_training.evaluation.evaluate import evaluate as plain_evaluate
from vireo_training.evaluation.plots import plot_training, read_history
from vireo_training.evaluation.report import check_out, data_id, evaluate_in_full, write_files
from vireo_training.evaluation.report_writer import query_sheet
from vireo_training.models.torch_towers import TorchTowers

IMAGES = ("recall_curves", "training_curves", "similarity", "best_queries", "worst_queries")


def _command(command, *words, width=400):
    """Runs a command as `vireo` does; errors of the project come through."""
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False,
                              env={"COLUMNS": str(width)})  # fmt: skip


@pytest.fixture(scope="module")
def written(run, scenes, tmp_path_factory):
    """Two reports on the test scenes, with other seeds of the resamples."""
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("a", 0), ("b", 1)):
        done = _command(
            evaluate, run / "bundle", "--data", scenes / "test", "--split", "all", "--resamples",
            200, "--seed", seed, "--train-data", scenes / "train", "--out",
            folder / name / "evaluation",
        )  # fmt: skip
        assert done.exit_code == 0
    return folder


@pytest.fixture(scope="module")
def report(written):
    return json.loads((written / "a" / "evaluation" / "report.json").read_text("utf-8"))


def test_the_report_holds_the_metrics_of_plain_evaluation(report, bundle, test_records):
    with Embedder(bundle, TorchTowers.from_bundle(bundle)) as embedder:
        plain = plain_evaluate(embedder, test_records)
    for key in ("text_to_image", "image_to_text", "chance_text_to_image", "chance_image_to_text"):
        assert report[key] == pytest.approx(plain[key])
    assert report["data_id"] == data_id(test_records[::-1])


def test_a_model_makes_no_mistake_where_all_images_are_captioned_alike(bundle, test_records):
    """Spelt in two ways that the text path makes one."""
    alike = [
        dataclasses.replace(record, captions=(("hoà bình", "hòa  bình")[n % 2],))
        for n, record in enumerate(test_records)
    ]
    with Embedder(bundle, TorchTowers.from_bundle(bundle)) as embedder:
        evaluation = evaluate_in_full(embedder, alike)
    for way in ("text_to_image", "image_to_text"):
        for measured in (evaluation.report, evaluation.report["without_diacritics"]):
            assert measured[way]["recall_at_1"] == measured[way]["mean_average_precision"] == 1
        assert evaluation.report[f"chance_{way}"]["recall_at_10"] == pytest.approx(1)
    assert evaluation.report["shared_captions"] == len(alike)
    query_sheet(evaluation, best=False)


def test_the_model_is_measured_beside_chance_and_words_without_diacritics(report, bundle):
    way = "text_to_image"
    model, bare = report[way], report["without_diacritics"][way]
    words, chance = report["bag_of_words"][way], report["chance_text_to_image"]
    assert bare["mean_reciprocal_rank"] < model["mean_reciprocal_rank"]  # it never saw such text
    assert words["mean_reciprocal_rank"] > chance["mean_reciprocal_rank"]
    learnt = bundle.config.provenance["pictures"]["train"]  # what the model saw, and no more
    assert f"{learnt} training images" in report["bag_of_words_note"]
    for measured in (report, report["without_diacritics"], report["bag_of_words"]):
        low, high = measured["intervals"][way]["mean_reciprocal_rank"]
        assert low <= measured[way]["mean_reciprocal_rank"] <= high
    for name, curves in report["recall_curves"].items():
        source = chance if name == "chance" else (
            report if name == "model" else report[name])[way]  # fmt: skip
        assert curves[way][4] == pytest.approx(source["recall_at_5"])
        assert len(curves[way]) == model["candidates"] == 48


def test_markdown_holds_the_same_numbers(report, written):
    text = (written / "a" / "evaluation" / "report.md").read_text("utf-8")
    parts = text.split("## ")[1:3]
    for way, part in zip(("text_to_image", "image_to_text"), parts, strict=True):
        rows = re.findall(
            r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", part, re.M
        )
        cells = {row[0]: row[1:] for row in rows}
        for label, key in (("recall@5", "recall_at_5"), ("mAP", "mean_average_precision")):
            values = [
                report[way][key],
                report["without_diacritics"][way][key],
                report["bag_of_words"][way][key],
                report[f"chance_{way}"][key],
            ]
            assert [c.split()[0] for c in cells[label]] == [f"{v:.3f}" for v in values]
            low, high = report["intervals"][way][key]
            assert cells[label][0].endswith(f"({low:.3f} to {high:.3f})")
        assert cells["median rank"][0].startswith(f"{report[way]['median_rank']:.1f} ")
    for name in IMAGES:
        assert f"({name}.png)" in text


def test_images_are_images(written):
    for name in IMAGES:
        with Image.open(written / "a" / "evaluation" / f"{name}.png") as image:
            assert min(image.size) > 200
            assert len(image.convert("RGB").getcolors(1 << 24)) > 10


def test_without_out_nothing_is_written_and_the_table_is_as_before(run, scenes, tmp_path):
    words = (run / "bundle", "--data", scenes / "test", "--split", "all")
    table = _command(evaluate, *words)
    assert "text to image (" in table.stdout
    assert "R@10" in table.stdout
    assert "intervals" not in json.loads(_command(evaluate, *words, "--json").stdout)


def test_a_second_report_replaces_the_first_and_leaves_other_files(run, scenes, tmp_path):
    out = tmp_path / "evaluation"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "training_curves.png").write_text("of an earlier run")
    copied = shutil.copytree(run / "bundle", tmp_path / "copy" / "bundle")  # without history
    words = (copied, "--data", scenes / "train", "--split", "validation", "--resamples", 20)
    first = _command(evaluate, *words, "--out", out)
    assert first.exit_code == 0
    assert (out / "notes.txt").read_text() == "mine"
    assert not (out / "training_curves.png").exists()
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert "training images" in report["bag_of_words_note"]  # from the training split
    assert _command(evaluate, *words, "--out", out, "--no-baseline").exit_code == 0
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert report["bag_of_words"] is None
    assert "| - |" in (out / "report.md").read_text("utf-8")


def test_measured_images_are_not_learnt_from(run, scenes, tmp_path):
    words = ("--data", scenes / "test", "--split", "all", "--train-data", scenes / "test")
    _command(evaluate, run / "bundle", *words, "--resamples", 20, "--out", tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert report["bag_of_words"] is None
    assert "every training image" in report["bag_of_words_note"]


def test_files_of_others_are_not_overwritten(run, scenes, tmp_path):
    (tmp_path / "report.json").write_text('{"text_to_image": {}}')
    words = (run / "bundle", "--data", scenes / "test", "--out")
    with pytest.raises(DataError, match="no report of `vireo evaluate`"):
        _command(evaluate, *words, tmp_path)
    with pytest.raises(DataError, match="is a file"):
        check_out(tmp_path / "report.json")


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path):
    write_files(tmp_path, {"a": lambda p: p.write_text("old")})

    def full(path):
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match="No space left"):
        write_files(tmp_path, {"a": lambda p: p.write_text("new"), "b": full})
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize(
    "words", [("--confidence", "1"), ("--resamples", "0"), ("--split", "half")]
)
def test_options_out_of_range_are_refused(run, words):
    assert _command(evaluate, run / "bundle", "--data", "x", *words).exit_code == 2


def test_without_matplotlib_the_error_names_the_extra(run, scenes, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"matplotlib.*vireo\[train\]"):
        _command(evaluate, run / "bundle", "--data", scenes / "test", "--out", tmp_path / "o")


def test_broken_histories_are_read_as_far_as_they_go(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_bytes(
        b'{"epoch": 1, "loss": 2.0, "text_to_image": 3}\nnull\n[1]\n\xff\n{"loss": 1}\n'
        b'{"epoch": 2, "text_to_image": {"recall_at_1": 0.5}}\n{"epoch": 3, "lo'
    )
    history = read_history(path)
    assert [line["epoch"] for line in history] == [1, 2]
    plot_training(history, tmp_path / "plot.png")
    plot_training([{"epoch": 1}], tmp_path / "plot.png")
    assert read_history(tmp_path / "none.jsonl") == []


def test_diacritics_are_dropped_in_any_unicode_form():
    text = "Đường phố Huế: một người đi xe đạp, ướt sũng! ơ Ư ẵ 5$"
    bare = "Duong pho Hue: mot nguoi di xe dap, uot sung! o U a 5$"
    for form in ("NFC", "NFD"):
        assert strip_diacritics(unicodedata.normalize(form, text)) == bare


def test_compare_puts_runs_side_by_side(written, report, tmp_path):
    done = _command(compare, written / "a", written / "b", "--out", tmp_path / "both")
    assert done.exit_code == 0
    text = (tmp_path / "both" / "comparison.md").read_text("utf-8")
    assert "do not compare" not in text
    recall = report["text_to_image"]["recall_at_1"]
    for name in ("a", "b"):
        assert f"| {name} | {recall:.3f} (" in text
    assert text.count("| chance |") == 2
    assert f"{recall:.3f}" in done.stdout
    with Image.open(tmp_path / "both" / "comparison.png") as image:
        assert image.size[0] > 800


@pytest.mark.parametrize("width", [80, 200])
def test_a_comparison_fits_its_terminal_and_breaks_no_figure(written, report, width):
    text = _command(compare, written / "a", written / "b", width=width).stdout
    assert [line for line in text.splitlines() if "│" in line and len(line) > width] == []
    for figure in ("recall_at_1", "mean_reciprocal_rank"):
        low, high = report["intervals"]["text_to_image"][figure]
        assert f"{report['text_to_image'][figure]:.3f}" in text
        ends = f"{low:.2f}-{high:.2f}".replace("0.", ".") if width == 80 else f"{low:.3f} to"
        assert ends in text


def test_compare_warns_where_the_tests_differ(written, report, tmp_path):
    other = tmp_path / "c"
    other.mkdir()
    changed = {**report, "data_id": "0" * 16, "data": "others"}
    (other / "report.json").write_text(json.dumps(changed), encoding="utf-8")
    _command(compare, written / "a", other, "--out", tmp_path / "out")
    text = (tmp_path / "out" / "comparison.md").read_text("utf-8")
    assert "do not compare" in text
    assert "c: others (all, 48 images" in text


def test_compare_warns_of_reports_that_counted_shared_captions_as_mistakes(report):
    older = {key: value for key, value in report.items() if key != "shared_captions"}
    assert report["shared_captions"] >= 0
    for shared, warned in ((0, False), (12, True)):
        newer = report | {"shared_captions": shared}
        assert not differences({"a": newer, "b": newer})
        assert bool(differences({"a": newer, "b": older})) is warned
    (line,) = differences({"new": newer, "old": older})
    assert line.startswith("old: measured by an older vireo")


def test_runs_of_one_name_get_different_names(written, report, tmp_path):
    for parent in ("x", "y"):
        folder = tmp_path / parent / "run"
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    runs = compare_module.read_runs([tmp_path / "x" / "run", tmp_path / "y" / "run"])
    assert list(runs) == ["x/run", "y/run"]
    with pytest.raises(DataError, match="given twice"):
        compare_module.read_runs([tmp_path / "x" / "run", tmp_path / "x" / "run" / "report.json"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "vireo evaluate BUNDLE"),
        ("{", "cannot be read"),
        ("[]", "no report of"),
        ('{"text_to_image": {}, "parity": {}}', "no report of"),  # what the demo writes
        ('{"kind": "vireo-evaluation", "report_version": 99}', "version 99"),
        ('{"kind": "vireo-evaluation", "report_version": 1}', "damaged"),
    ],
)
def test_compare_names_the_fault_of_a_report(tmp_path, content, message):
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(DataError, match=message):
        _command(compare, tmp_path)
