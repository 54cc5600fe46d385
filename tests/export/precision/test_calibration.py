import numpy as np
import pytest
from vireo_client.captions import CaptionedImage
from vireo_client.errors import ExportError
from vireo_client.text.pipeline import TextPath
from vireo_export.onnx.optimise import optimise
from vireo_export.precision.calibration import Calibration, largest_values


@pytest.fixture
def text_path(bundle):
    return TextPath.from_bundle(bundle)


def test_too_few_images_are_refused_with_their_number(bundle, text_path, test_records):
    for count in (0, 5):
        with pytest.raises(ExportError, match=rf"{count} image\(s\) can be read.*fewer than 16"):
            Calibration.read(test_records[:count], bundle.config, text_path)


def test_images_that_cannot_be_read_do_not_count(bundle, text_path, test_records, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    broken = [CaptionedImage(tmp_path / "broken.jpg", ("x",))] * 20
    with pytest.raises(ExportError, match=r"15 image\(s\) can be read"):
        Calibration.read([*broken, *test_records[:15]], bundle.config, text_path)
    read = Calibration.read([*broken, *test_records[:16]], bundle.config, text_path)
    assert sum(len(b["pixels"]) for b in read.batches["image_encoder"]) == 16


def test_as_many_images_are_read_as_the_settings_require(bundle, text_path, test_records):
    settings = bundle.config.export.model_copy(update={"calibration_pictures": 20})
    config = bundle.config.model_copy(update={"export": settings})
    read = Calibration.read(test_records, config, text_path)
    assert sum(len(b["pixels"]) for b in read.batches["image_encoder"]) == 20
    captions = sum(len(b["input_ids"]) for b in read.batches["text_encoder"])
    assert captions == sum(len(r.captions) for r in test_records) * 20 // len(test_records)
    pixels = read.batches["image_encoder"][0]["pixels"]
    side = bundle.config.image.size
    assert (pixels.dtype, pixels.shape[1:]) == (np.uint8, (3, side, side))


def test_ranges_are_of_real_activations(exported, tmp_path):
    source = exported("scenes", "image")
    optimise(source.path, tmp_path / "model.onnx")
    bright = largest_values(tmp_path / "model.onnx", [source.inputs])
    assert bright["embedding"] == pytest.approx(np.abs(source.expected()).max(), rel=1e-4)
    dark = largest_values(tmp_path / "model.onnx", [{"pixels": source.inputs["pixels"] // 8}])
    assert dark != bright
    both = largest_values(
        tmp_path / "model.onnx", [source.inputs, {"pixels": source.inputs["pixels"] // 8}]
    )
    assert all(both[name] == pytest.approx(max(bright[name], dark[name])) for name in both)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]  # no temporary file stays
