import json

import pytest
from pydantic import ValidationError
from vireo_client.bundle import BundleConfig
from vireo_client.errors import ExportError
from vireo_serving.plans.options import BuildOptions
from vireo_serving.plans.profiles import Profile, bundle_profiles, dims, spanning


@pytest.fixture
def config():
    return BundleConfig(
        bundle_id="0123456789abcdef",
        embedding_dim=8,
        image={"size": 32, "resize": 36, "mean": (0.5,) * 3, "std": (0.5,) * 3},
        text={
            "normalization": "nfc", "segmenter": "none", "pad_id": 1, "vocab_size": 100,
            "buckets": (16, 32, 64),
        },
        model={},
    )  # fmt: skip


def test_the_text_tower_has_a_profile_per_bucket_and_the_image_tower_one(config):
    profiles = bundle_profiles(config, 64)
    assert profiles == {
        "text_encoder": tuple(
            Profile("input_ids", (1, length), (8, length), (64, length)) for length in (16, 32, 64)
        ),
        "image_encoder": (
            Profile("pixels", (1, 3, 32, 32), (8, 3, 32, 32), (64, 3, 32, 32)),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("largest", [1, 2, 3, 5, 7, 8, 100, 256])
def test_every_largest_batch_has_an_optimum_below_it(config, largest):
    for profile in (
        p for all_of_one in bundle_profiles(config, largest).values() for p in all_of_one
    ):
        assert profile.min[0] == 1 <= profile.opt[0] <= profile.max[0] == largest


def test_the_optimum_can_be_chosen(config):
    (image,) = bundle_profiles(config, 64, opt_batch=32)["image_encoder"]
    assert image.opt[0] == 32
    with pytest.raises(ExportError, match="128x16 <= 64x16"):
        bundle_profiles(config, 64, opt_batch=128)


@pytest.mark.parametrize("largest", [0, -1])
def test_a_batch_below_one_is_refused(config, largest):
    with pytest.raises(ExportError, match="must be 1 or more"):
        bundle_profiles(config, largest)


@pytest.mark.parametrize(
    ("low", "middle", "high"),
    [((1, 16), (8,), (64, 16)), ((2,), (1,), (3,)), ((0,), (1,), (2,)), ((), (), ())],
)
def test_shapes_that_are_no_range_are_refused(low, middle, high):
    with pytest.raises(ExportError, match="does not hold"):
        Profile("input_ids", low, middle, high)


def test_one_profile_can_span_all_buckets(config):
    assert spanning(bundle_profiles(config, 64)["text_encoder"]) == Profile(
        "input_ids", (1, 16), (8, 64), (64, 64)
    )
    for none in ([], [Profile("a", (1,), (1,), (1,)), Profile("b", (1,), (1,), (1,))]):
        with pytest.raises(ExportError, match="cannot join"):
            spanning(none)


def test_shapes_are_written_as_tensorrt_reads_them():
    assert dims((8, 3, 224, 224)) == "8x3x224x224"


@pytest.mark.parametrize(
    "wrong",
    [{"optimization_level": 6}, {"optimization_level": -1}, {"workspace_bytes": 0},
     {"hardware_compatibility": "all"}, {"refit": True}],
)  # fmt: skip
def test_options_that_tensorrt_has_not_are_refused(wrong):
    with pytest.raises(ValidationError):
        BuildOptions(**wrong)


def test_options_read_back_as_they_were_written():
    options = BuildOptions(workspace_bytes=1 << 30, hardware_compatibility="ampere_plus")
    assert BuildOptions(**json.loads(options.model_dump_json())) == options
