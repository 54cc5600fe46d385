import json
import shutil

import pytest
from vireo_client.bundle import BUNDLE_FILE, Bundle, ImageSpec, TextSpec
from vireo_client.errors import BundleError, SegmenterError
from vireo_client.text.pipeline import TextPath


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle.folder, tmp_path / "bundle")


def _edit(folder, **changes):
    path = folder / BUNDLE_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_bundle_tells_what_its_model_expects(bundle):
    config = bundle.config
    assert (config.embedding_dim, config.image.size) == (256, 32)
    assert config.text.buckets == (16, 32, 64)
    assert config.text.max_length == 64
    assert bundle.text_files() == [
        bundle.folder / name for name in ("tokenizer.json", "vi-vocab", "wordsegmenter.rdr")
    ]


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_an_unknown_schema_version_is_refused_with_advice(copy, version):
    _edit(copy, schema_version=version)
    with pytest.raises(BundleError, match=r"schema version .* reads version 1; install the vireo"):
        Bundle(copy)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"no bundle\.json here"):
        Bundle(tmp_path)


def test_broken_json_is_refused(copy):
    (copy / BUNDLE_FILE).write_text('{"schema_version": 1,')
    with pytest.raises(BundleError, match=r"bundle\.json: cannot be read"):
        Bundle(copy)


def test_a_wrong_value_is_named(copy):
    _edit(copy, embedding_dim=0)
    with pytest.raises(BundleError, match="embedding_dim"):
        Bundle(copy)


def test_a_missing_tokenizer_is_named(copy):
    (copy / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"tokenizer\.json is missing"):
        Bundle(copy)


def test_engines_are_not_taken_for_weights(repository):
    with pytest.raises(BundleError, match=r"no model\.safetensors.*not a model repository"):
        _ = repository.weights_file


def test_specs_refuse_what_cannot_work():
    with pytest.raises(ValueError, match="smaller than size"):
        ImageSpec(size=10, resize=5, mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(ValueError, match="std"):
        ImageSpec(size=10, resize=10, mean=(0, 0, 0), std=(1, 0, 1))
    with pytest.raises(ValueError, match="ascend"):
        TextSpec(normalization="n", segmenter="none", pad_id=1, vocab_size=9, buckets=(32, 16))


@pytest.mark.parametrize("name", ["../escaped", "/etc/passwd", "deep/down", "./vi-vocab", ".."])
def test_a_bundle_names_no_file_outside_its_folder(copy, name):
    settings = json.loads((copy / BUNDLE_FILE).read_text())
    settings["text"]["segmenter_files"] = [name]
    (copy / BUNDLE_FILE).write_text(json.dumps(settings))
    with pytest.raises(BundleError, match="only plain file names are taken"):
        Bundle(copy)


@pytest.mark.parametrize("segmenter", ["vncorenlp", "py_vncorenlp", "pyvi", "none", "raw", "own"])
@pytest.mark.parametrize("name", ["model.py", "VnCoreNLP-1.2.jar", "tokenizer.json", "rules.txt"])
def test_a_bundle_names_only_files_that_its_segmenter_is_known_to_have(copy, segmenter, name):
    """The files lie beside the models' code on a server, and one of them could be run."""
    (copy / name).touch()
    settings = json.loads((copy / BUNDLE_FILE).read_text())
    settings["text"] |= {"segmenter": segmenter, "segmenter_files": [name]}
    (copy / BUNDLE_FILE).write_text(json.dumps(settings))
    with pytest.raises(BundleError, match=f"segmenter_files names '{name}'"):
        Bundle(copy)


def test_the_jar_of_a_bundle_is_never_run(copy, monkeypatch, tmp_path):
    monkeypatch.setenv("VIREO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (copy / "VnCoreNLP-1.2.jar").touch()
    settings = json.loads((copy / BUNDLE_FILE).read_text())
    settings["text"] |= {"segmenter": "py_vncorenlp", "segmenter_files": []}
    (copy / BUNDLE_FILE).write_text(json.dumps(settings))
    with pytest.raises(SegmenterError, match=r"no VnCoreNLP-\*\.jar in") as error:
        TextPath.from_bundle(Bundle(copy))
    assert str(copy) not in str(error.value)


def test_a_bundle_from_before_other_sources_means_what_it_meant(copy):
    """None of these settings was recorded then."""
    settings = json.loads((copy / BUNDLE_FILE).read_text())
    for part, names in {"image": ("fit", "offset"), "text": ("cut", "pad_side")}.items():
        for name in names:
            del settings[part][name]
    (copy / BUNDLE_FILE).write_text(json.dumps(settings))
    older = Bundle(copy).config
    assert (older.image.fit, older.text.cut, older.text.pad_side) == ("window", "word", "right")
    TextPath.from_bundle(Bundle(copy)).encode(["hai con cá"])


def test_an_unknown_normalisation_is_refused(copy):
    settings = json.loads((copy / BUNDLE_FILE).read_text())
    settings["text"]["normalization"] = "vi-nfc-tones-9"
    (copy / BUNDLE_FILE).write_text(json.dumps(settings))
    with pytest.raises(BundleError, match=r"'vi-nfc-tones-9', this vireo has vi-nfc-tones-3,"):
        TextPath.from_bundle(Bundle(copy))
