"""Runs that end early and go on, bit for bit."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from support.presets import shrink
from support.runs import assert_same_state, checkpoint
from vireo_client.bundle import Bundle
from vireo_client.errors import TrainingError
from vireo_training.loop import train as module
from vireo_training.loop.checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint
from vireo_training.loop.step import Step
from vireo_training.loop.train import train
from vireo_training.models.bundle_writer import load_model
from vireo_training.models.resolve import resolve
from vireo_training.presets import load_config

# Everything that holds a state: dropout, moving averages, random views, gradients over two batches.
SETTINGS = ["epochs=3", "batch_size=8", "text.layers=1", "text.segmenter=none", "text.width=32",
            "text.dropout=0.1", "ema=0.9", "augment.crop=0.8", "augment.flip=0.5", "accumulate=2",
            "text_augment.bare=0.3", "image.size=48", "image.resize=52",
            "validation_fraction=0.2", "schedule=plateau"]  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(scenes, tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted")
    train(load_config("scenes", SETTINGS), scenes / "test", out)
    return out


def _interrupt_after(monkeypatch, batches, number=signal.SIGINT):
    """Sends a real signal once so many batches have been handed out."""
    plain, handed = module.batches_ahead, []

    def counted(*arguments):
        for batch in plain(*arguments):
            handed.append(1)
            if len(handed) == batches:
                os.kill(os.getpid(), number)
            yield batch

    monkeypatch.setattr(module, "batches_ahead", counted)


@pytest.mark.parametrize(
    ("batches", "number"),
    [(2, signal.SIGINT), (6, signal.SIGTERM), (7, signal.SIGINT), (8, signal.SIGINT)],
)
def test_a_resumed_run_ends_as_the_uninterrupted_one(
    uninterrupted, scenes, tmp_path, monkeypatch, batches, number
):
    config = load_config("scenes", SETTINGS)
    with monkeypatch.context() as patch:
        _interrupt_after(patch, batches, number)
        try:
            result = train(config, scenes / "test", tmp_path)
            assert result.interrupted
            assert load_model(Bundle(result.bundle))  # the best so far
        except KeyboardInterrupt:
            assert not (tmp_path / "bundle").exists()  # no epoch was done
    assert not checkpoint(tmp_path)["finished"]
    with pytest.raises(TrainingError, match=r"is not finished .* --resume, or begin anew with --r"):
        train(config, scenes / "test", tmp_path)

    result = train(config, scenes / "test", tmp_path, resume=True)
    assert not result.interrupted
    assert Bundle(result.bundle).bundle_id == Bundle(uninterrupted / "bundle").bundle_id
    assert_same_state(tmp_path, uninterrupted)


# Of five epochs, the first two are the warm-up.
FALLING = ["epochs=5", "warmup_epochs=2", "batch_size=8", "text.layers=1", "text.segmenter=none",
           "text.width=16", "image.size=32", "image.resize=32", "validation_fraction=0.2",
           "plateau_patience=0", "plateau_factor=0.3"]  # fmt: skip


@pytest.mark.parametrize("kind", ["cosine", "plateau", "constant"])
def test_a_resumed_run_has_the_rates_of_the_uninterrupted_one(
    scenes, tmp_path, monkeypatch, rates, kind
):
    config = load_config("scenes", [*FALLING, f"schedule={kind}"])
    train(config, scenes / "test", tmp_path / "whole")
    expected = rates.copy()
    epoch = len(expected) // 5
    assert epoch >= 2
    assert len(set(map(tuple, expected[: 2 * epoch]))) == 2 * epoch  # all rates rise
    for batches in (1, 2 * epoch + 1, 4 * epoch + 1):
        rates.clear()
        out = tmp_path / str(batches)
        with monkeypatch.context() as patch:
            _interrupt_after(patch, batches)
            try:
                assert train(config, scenes / "test", out).interrupted
            except KeyboardInterrupt:
                assert batches < epoch  # no epoch was done
        assert len(rates) == batches
        train(config, scenes / "test", out, resume=True)
        assert rates == expected
        assert_same_state(out, tmp_path / "whole")


def test_a_finished_run_can_go_on_for_more_epochs(scenes, tmp_path):
    config = load_config("scenes", [*SETTINGS, "epochs=1"])
    train(config, scenes / "test", tmp_path)
    train(load_config("scenes", [*SETTINGS, "epochs=2"]), scenes / "test", tmp_path, resume=True)
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 2


def test_more_epochs_have_the_rates_of_the_longer_schedule(scenes, tmp_path, rates):
    """The shorter run's cosine ended at 0; what follows is as if it had been the longer one."""
    longer = load_config("scenes", [*FALLING, "schedule=cosine"])
    shorter = load_config("scenes", [*FALLING, "schedule=cosine", "epochs=3"])
    train(longer, scenes / "test", tmp_path / "longer")
    expected = rates.copy()
    train(shorter, scenes / "test", tmp_path / "run")
    rates.clear()
    train(longer, scenes / "test", tmp_path / "run", resume=True)
    assert rates == expected[-2 * (len(expected) // 5) :]
    assert all(rate > 0 for rate in rates[0])


def test_a_run_that_ended_badly_goes_on_or_begins_anew(scenes, tmp_path, monkeypatch):
    config = load_config("scenes", SETTINGS)
    with monkeypatch.context() as patch:
        _interrupt_after(patch, 6)
        train(config, scenes / "test", tmp_path)
    result = train(config, scenes / "test", tmp_path, restart=True)
    assert not result.interrupted


def test_a_checkpoint_of_another_run_is_refused(uninterrupted, scenes):
    with pytest.raises(TrainingError, match=r"text.width was 32 and is 64 now"):
        train(load_config("scenes", [*SETTINGS, "text.width=64"]), scenes / "test",
              uninterrupted, resume=True)  # fmt: skip
    with pytest.raises(TrainingError, match="it was trained on other data"):
        train(load_config("scenes", SETTINGS), scenes / "train", uninterrupted, resume=True)


def test_a_checkpoint_of_another_run_is_refused_before_images_are_decoded(
    uninterrupted, scenes, monkeypatch
):
    def too_late(*arguments, **options):
        raise AssertionError("decoded first")

    monkeypatch.setattr(module, "prepare", too_late)
    with pytest.raises(TrainingError, match=r"text.width was 32 and is 64 now"):
        train(load_config("scenes", [*SETTINGS, "text.width=64"]), scenes / "test",
              uninterrupted, resume=True)  # fmt: skip


def test_a_setting_that_is_gone_is_another_run_too(uninterrupted):
    state = torch.load(uninterrupted / CHECKPOINT_FILE, weights_only=True)
    settings = json.loads(state["config"])
    here = resolve(load_config("scenes", [*SETTINGS, "image.kwargs.kept=1"]))
    settings["image"]["kwargs"] = {"kept": 1, "gone": 2}
    folder = uninterrupted / "other"
    folder.mkdir()
    save_checkpoint(folder, state | {"config": json.dumps(settings)})
    with pytest.raises(TrainingError, match=r"image\.kwargs\.gone was 2 and is None now"):
        load_checkpoint(folder, here, 1)


def test_a_preset_does_not_go_on_with_anothers_checkpoint(scenes, tmp_path):
    small = ["epochs=1", "batch_size=16", "precision=fp32", "validation_fraction=0"]
    train(load_config("mini-lstm", [*shrink("mini-lstm"), *small]), scenes / "test", tmp_path)
    other = load_config("mini-transformer", [*shrink("mini-transformer"), *small])
    with pytest.raises(TrainingError, match=r"text.kind was 'lstm' and is 'transformer' now"):
        train(other, scenes / "test", tmp_path, resume=True)


@pytest.mark.parametrize("change", ["weights", "captions", "validation"])
def test_other_data_than_images_and_captions_belong_to_a_run_as_well(scenes, tmp_path, change):
    lines = (scenes / "test" / "captions.jsonl").read_text().splitlines()
    data = shutil.copytree(scenes / "test", tmp_path / "data")
    parts = []
    for name, part in (("a", lines[:20]), ("b", lines[20:36]), ("held", lines[36:])):
        parts.append(data / f"{name}.jsonl")
        parts[-1].write_text("\n".join(part))
    extra = tmp_path / "extra.jsonl"
    extra.write_text('{"captions": ["hai con chó", "đôi chó"]}')
    sources, options = [*map(str, parts[:2])], {"validation": str(parts[2]), "captions": [extra]}
    settings = [*SETTINGS, "epochs=1", "text_pairs=1", "text.tokenizer=words"]
    train(load_config("scenes", settings), sources, tmp_path / "run", **options)
    if change == "weights":
        sources[1] += "=3"
    elif change == "captions":
        extra.write_text('{"captions": ["hai con mèo", "đôi mèo"]}')
    else:
        parts[2].write_text("\n".join(lines[40:]))
    with pytest.raises(TrainingError, match="it was trained on other data"):
        train(load_config("scenes", [*settings, "epochs=2"]), sources, tmp_path / "run",
              resume=True, **options)  # fmt: skip


def test_a_checkpoint_that_is_missing_or_damaged_is_an_error(uninterrupted, scenes, tmp_path):
    config = load_config("scenes", SETTINGS)
    with pytest.raises(TrainingError, match="no such file; leave --resume out"):
        train(config, scenes / "test", tmp_path, resume=True)
    whole = (uninterrupted / CHECKPOINT_FILE).read_bytes()
    (tmp_path / CHECKPOINT_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TrainingError, match="cannot be read"):
        train(config, scenes / "test", tmp_path, resume=True)


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path):
    """A limit on file size stands for the full disk: writing fails half-way in either case."""
    config = load_config("scenes", SETTINGS)
    state = {"config": config.model_dump_json(), "random": [{}], "weights": torch.zeros(1000)}
    save_checkpoint(tmp_path, state)
    script = f"""
from pathlib import Path
import torch
from vireo_client.errors import TrainingError
from vireo_training.loop.checkpoint import save_checkpoint
try:
    save_checkpoint(Path({str(tmp_path)!r}), {{"weights": torch.zeros(1_000_000)}})
except TrainingError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )  # fmt: skip
    assert "cannot be written" in done.stdout, done.stderr
    assert "the last one is whole" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT_FILE]
    assert len(load_checkpoint(tmp_path, config, 1)["weights"]) == 1000


@pytest.mark.parametrize("batch_size", [8, 48])
def test_weights_that_are_not_finite_are_never_written(scenes, tmp_path, monkeypatch, batch_size):
    """An update breaks them after a loss that was finite, within an epoch or at its end."""
    plain = Step.update

    def update(step):
        plain(step)
        with torch.no_grad():
            step.model.text_tower.head.input.weight[0, 0] = torch.nan

    monkeypatch.setattr(Step, "update", update)
    broken = [*SETTINGS, f"batch_size={batch_size}", "accumulate=1", "checkpoint_minutes=1e-9"]
    with pytest.raises(TrainingError, match="weights are no longer finite; lower the learning"):
        train(load_config("scenes", broken), scenes / "test", tmp_path)
    assert not (tmp_path / CHECKPOINT_FILE).exists()
    assert not (tmp_path / "bundle").exists()


def test_a_loss_that_is_not_finite_stops_and_keeps_bundle_and_checkpoint(scenes, tmp_path):
    good = [*SETTINGS, "epochs=1"]
    train(load_config("scenes", good), scenes / "test", tmp_path)
    before = Bundle(tmp_path / "bundle").bundle_id, (tmp_path / CHECKPOINT_FILE).read_bytes()
    broken = [*SETTINGS, "epochs=9", "lr_head=1e30", "lr_text=1e30", "lr_image=1e30"]
    with pytest.raises(TrainingError, match="lower the learning rates"):
        train(load_config("scenes", broken), scenes / "test", tmp_path)
    assert before == (
        Bundle(tmp_path / "bundle").bundle_id, (tmp_path / CHECKPOINT_FILE).read_bytes(),
    )  # fmt: skip


def test_a_run_whose_bundle_was_not_written_is_not_lost(scenes, tmp_path, monkeypatch):
    config = load_config("scenes", [*SETTINGS, "epochs=1"])

    def full_disk(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_bundle", full_disk)
        with pytest.raises(OSError, match="No space left"):
            train(config, scenes / "test", tmp_path)
    with pytest.raises(TrainingError, match=r"trained, its bundle not written.*--resume"):
        train(config, scenes / "test", tmp_path)
    assert load_model(Bundle(train(config, scenes / "test", tmp_path, resume=True).bundle))
    train(config, scenes / "test", tmp_path)  # that one is done: another may begin
