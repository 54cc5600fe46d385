import json
import re

import pytest
from vireo_client.errors import TrainingError
from vireo_training.models.image_tower import _FROM_SCRATCH
from vireo_training.presets import load_config, preset_names


def test_every_preset_loads_and_describes_something_trainable():
    assert {"photos", "scenes", "vireo-small", "vireo-base"} < set(preset_names())
    assert load_config("scenes").image.pool == "grid"
    assert load_config("photos", ["image.weights=x.safetensors"]).image.freeze


def test_overrides_reach_nested_settings_and_keep_their_types():
    config = load_config(
        "scenes",
        ["epochs=3", "image.kwargs.drop_rate=0.5", "text.buckets=[8,24]", "augment.flip=0.5"],
    )
    assert (config.epochs, config.image.kwargs, config.text.buckets) == (
        3,
        {"drop_rate": 0.5},
        (8, 24),
    )


def test_a_preset_may_be_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"epochs": 5}))
    assert load_config(str(path)).epochs == 5


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["epochs=0"], "epochs"),
        (["epohcs=3"], "epohcs"),
        (["text.name=x", "text.weights=pretrained"], "trained from scratch; give text.kind"),
        (["epochs"], "KEY=VALUE"),
        (["epochs.x=1"], "holds a value"),
        (["text.width=30", "text.heads=4"], "not a multiple"),
        (["image.freeze=true"], r"image\.weights is not set"),
        (["test_fraction=0.99", "validation_fraction=0.5"], "nothing to train on"),
    ],
)
def test_a_bad_setting_is_named(overrides, message):
    with pytest.raises(TrainingError, match=message):
        load_config("scenes", overrides)


def test_an_unknown_preset_lists_the_known(tmp_path):
    with pytest.raises(TrainingError, match="there are efficientnet-bow, "):
        load_config("foto")
    with pytest.raises(TrainingError, match="no such file"):
        load_config(str(tmp_path / "gone.json"))


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("epoch=1", r"epoch: there is no such setting; is it epochs\?"),
        ("image.weight=x", r"image\.weight: .*is it image\.weights"),
        ("freeze=true", r"freeze: .*is it text\.freeze or image\.freeze\?"),
        ("xyzzy=1", "xyzzy: there is no such setting; --show lists all"),
    ],
)
def test_an_unknown_setting_hints_at_those_like_it(override, hint):
    with pytest.raises(TrainingError, match=hint):
        load_config("mini-lstm", [override])


@pytest.mark.parametrize("preset", preset_names())
def test_advice_to_train_from_scratch_fits_every_preset(preset):
    settings = re.findall(r"--set (\S+)", _FROM_SCRATCH)
    assert "warm_start=false" in settings
    config = load_config(preset, ["image.weights=x", *settings])
    assert config.image.weights is None
    assert not config.image.freeze
