import gc
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny_models import HUGGINGFACE, clip_tokenizer
from typer.testing import CliRunner
from vireo_client.bundle import Bundle
from vireo_client.cli import build_app
from vireo_client.errors import BundleError, VireoError
from vireo_client.text.pipeline import TextPath
from vireo_client.towers import onnx as onnx_towers
from vireo_export.export import repository_for
from vireo_training.evaluation.evaluate import default_split
from vireo_training.sources import open_source


@pytest.fixture
def clip(example_of, tmp_path):
    """A folder with a tiny CLIP that a test may damage."""
    return shutil.copytree(example_of("hf/clip").model, tmp_path / "clip")


def _edit(file: Path, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def _processor(folder: Path, **changes):
    """Change the image preprocessing of a folder that a processor wrote."""
    file = folder / "processor_config.json"
    settings = json.loads(file.read_text())
    settings["image_processor"] |= changes
    file.write_text(json.dumps(settings))


def test_a_bundle_is_a_source(bundle):
    source = open_source(bundle.folder)
    assert source.bundle.folder == bundle.folder
    assert default_split(source.bundle, "test") == "test"


def test_the_temporary_folder_lives_as_long_as_the_bundle(clip):
    source = open_source(clip)
    bundle, folder = source.bundle, source.bundle.folder
    assert {file.name for file in folder.iterdir()} == {"bundle.json", "tokenizer.json"}
    assert default_split(bundle, "test") == "all"
    del source
    gc.collect()
    assert Bundle(folder).bundle_id == bundle.bundle_id
    del bundle
    gc.collect()
    assert not folder.exists()


def test_a_foreign_source_holds_no_weights_of_the_other_tower(clip):
    source = open_source(clip)
    whole = sum(tensor.numel() for tensor in load_file(clip / "model.safetensors").values())
    towers = [
        sum(p.numel() for p in t.parameters()) for t in (source.text_tower, source.image_tower)
    ]
    assert sum(towers) <= whole + 1  # both hold the logit scale
    assert min(towers) > whole / 10


def test_the_bundle_id_depends_on_the_weights_and_not_on_the_folder(clip, example_of):
    first = example_of("hf/clip").source.bundle.bundle_id
    assert open_source(f"hf:{clip}").bundle.bundle_id == first
    weights = load_file(clip / "model.safetensors")
    name = next(iter(weights))
    weights[name] = weights[name] + 0.01
    save_file(weights, clip / "model.safetensors", metadata={"format": "pt"})
    assert open_source(clip).bundle.bundle_id != first


def test_half_precision_weights_are_loaded_as_fp32(clip):
    weights = load_file(clip / "model.safetensors")
    half = {name: tensor.half() for name, tensor in weights.items()}
    save_file(half, clip / "model.safetensors", metadata={"format": "pt"})
    _edit(clip / "config.json", dtype="float16")
    assert {p.dtype for p in open_source(clip).text_tower.parameters()} == {torch.float32}


def test_the_default_repository_bears_the_models_name(bundle, clip, monkeypatch):
    monkeypatch.chdir(clip.parent)
    assert repository_for(bundle.folder) == bundle.folder.resolve().parent / "model_repository"
    names = {
        "hf:google/siglip2-base-patch16-256": "siglip2-base-patch16-256_repository",
        "open_clip:nllb-clip-base@v1": "nllb-clip-base-v1_repository",
        "hf-hub:timm/ViT-B-16-SigLIP2": "ViT-B-16-SigLIP2_repository",
        "clip/": "clip_repository",
    }
    for name, folder in names.items():
        assert repository_for(name) == Path(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody/nothing", r"no such folder; .* hf:OWNER/NAME"),
        (
            "hf:nobody/nothing",
            r"not in the hub's cache, and VIREO_OFFLINE is set\); give hf:FOLDER",
        ),
        ("open_clip:no-such-model@x", r"open_clip has no such model; open_clip\.list_pretrained"),
        (
            "open_clip:xlm-roberta-base-ViT-B-32",
            r"name its weights after @: one of laion5b_s13b_b90k",
        ),
        ("open_clip:nllb-clip-base@v9", r"no such weights and no such file; its weights are v1"),
        ("open_clip:nllb-clip-base@v1", r"VIREO_OFFLINE is set\); give MODEL@FILE"),
        ("hf-hub:nobody/nothing", r"VIREO_OFFLINE is set\); give MODEL@FILE"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_named(name, message):
    with pytest.raises(VireoError, match=message):
        open_source(name)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"no bundle\.json here"):
        open_source(tmp_path)


def test_an_unknown_family_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(
        VireoError, match=r"of family 'bert', .* align, altclip, chinese_clip, clip"
    ):
        open_source(tmp_path)


def test_models_of_flexible_resolution_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "siglip2"}')
    with pytest.raises(VireoError, match=r"NaFlex.* name one of a fixed resolution"):
        open_source(tmp_path)


def test_missing_weights_are_refused(clip):
    weights = load_file(clip / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, clip / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(VireoError, match=r"lack 1 tensors \(first: text_projection\.weight\)"):
        open_source(clip)
    (clip / "model.safetensors").unlink()
    with pytest.raises(VireoError, match=r"clip: cannot be had"):
        open_source(clip)


def test_damaged_weights_are_refused(clip):
    file = clip / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(VireoError, match=r"clip: cannot be had"):
        open_source(clip)


def test_a_model_without_image_preprocessing_is_refused(clip):
    (clip / "processor_config.json").unlink()
    with pytest.raises(VireoError, match=r"image preprocessing cannot be read"):
        open_source(clip)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"do_center_crop": False}, r"which is not square"),
        ({"crop_size": {"height": 32, "width": 16}}, r"crops to 32 x 16"),
        ({"size": {"shortest_edge": 16}}, r"resizes to 16 and crops to 32"),
        ({"resample": 0}, r"Pillow's filter 0"),
        ({"do_resize": False}, r"does not resize"),
        ({"crop_size": {"height": 24, "width": 24}}, r"does not run on .* 24 x 24"),
    ],
)
def test_preprocessing_that_a_bundle_cannot_express_is_refused(clip, changes, message):
    _processor(clip, **changes)
    with pytest.raises(VireoError, match=message):
        open_source(clip)


def test_an_unsuitable_tokenizer_is_refused(clip):
    clip_tokenizer(padding_side="left").save_pretrained(clip)
    with pytest.raises(VireoError, match=r"pads on the left"):
        open_source(clip)
    (clip / "tokenizer.json").unlink()
    (clip / "tokenizer_config.json").unlink()
    with pytest.raises(VireoError, match=r"tokenizer has no vocabulary; its files must"):
        open_source(clip)


def test_image_padding_by_open_clip_is_refused(example_of, tmp_path):
    folder = shutil.copytree(example_of("open_clip/vit").model, tmp_path / "vit")
    _edit(folder / "open_clip_config.json", preprocess_cfg={"resize_mode": "longest"})
    with pytest.raises(VireoError, match=r"resized by 'longest'"):
        open_source(folder)


def test_an_open_clip_folder_without_weights_is_refused(example_of, tmp_path):
    folder = shutil.copytree(example_of("open_clip/vit").model, tmp_path / "vit")
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(VireoError, match=r"cannot be had"):
        open_source(folder)


def test_siglip_masks_its_padding_where_its_library_does(tmp_path):
    """Its tokenizer names the model's inputs; padding and the end of a text share an id."""
    from transformers import AutoModel, AutoProcessor

    folder = HUGGINGFACE["siglip"](tmp_path / "siglip")
    _edit(folder / "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"])
    source = open_source(folder)
    processor = AutoProcessor.from_pretrained(folder)
    inputs = processor(text=["hai con chó"], padding="max_length", return_tensors="pt")
    assert inputs["attention_mask"].sum() < 64
    with torch.no_grad():
        theirs = AutoModel.from_pretrained(folder).get_text_features(**inputs).pooler_output
        ours = source.text_tower(inputs["input_ids"].int())
    assert torch.cosine_similarity(ours, theirs) > 0.9999


def test_padding_is_left_off_only_where_no_embedding_depends_on_it(
    example_of, repository, monkeypatch
):
    """CLIP ends a text with the token that pads, and SigLIP reads its padding."""
    paddings = []
    monkeypatch.setattr(
        onnx_towers, "OnnxEngine", lambda path, threads, padding=None: paddings.append(padding)
    )
    clip, siglip = (example_of(name) for name in ("hf/clip", "hf/siglip"))
    for bundle in (clip.repository, siglip.source.bundle, repository):
        text = bundle.config.text
        assert text.padding_is_free == (bundle is repository)
        assert TextPath.from_bundle(bundle).tokenizer.padding_is_free == text.padding_is_free
    for bundle in (clip.repository, repository):
        onnx_towers.OnnxTowers.from_repository(bundle)
    assert paddings == [None, None, repository.config.text.pad_id, None]


def test_export_and_evaluate_without_a_split(example_of, data_set, tmp_path, monkeypatch):
    """A source records no split, so all images of `--data` are compared and evaluated."""
    folder = shutil.copytree(example_of("hf/clip").model, tmp_path / "tiny-clip")
    monkeypatch.chdir(tmp_path)
    captions = [{"image": f"{n}.jpg", "captions": [f"ảnh số {n}"]} for n in range(4)]
    data = data_set(*captions, images=tuple(f"{n}.jpg" for n in range(4)))
    vireo, runner = build_app(), CliRunner()
    result = runner.invoke(vireo, ["export", str(folder), "--data", str(data), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["image"]["compared"] == 4
    repository = tmp_path / "tiny-clip_repository"
    assert Bundle(repository).config.model["family"] == "clip"
    result = runner.invoke(vireo, ["evaluate", str(repository), "--data", str(data), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["pictures"] == 4
