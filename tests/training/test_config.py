import json

import pytest
from vireo_client.errors import TrainingError
from vireo_training.config import load_config, preset_names


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
