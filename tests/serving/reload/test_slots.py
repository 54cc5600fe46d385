"""What Triton is shown of a publication, without a server: no code from the repository."""

import pytest
from support.tagged_versions import FOREIGN, publish
from vireo_client import __version__
from vireo_client.errors import BundleError
from vireo_serving.configs.triton_config import CONFIG_FILE, read_config, write_config
from vireo_serving.models import exported_with
from vireo_serving.models.files import FILES, FOLDER
from vireo_serving.reload.folder import ServingFolder

MODEL_FILES = {
    "text_encoder": "onnx_tower.py",
    "image_encoder": "onnx_tower.py",
    "preprocess_text": "preprocess_text.py",
    "preprocess_image": "preprocess_image.py",
}


@pytest.fixture
def repository(tmp_path, bundle):
    publish(tmp_path / "models", bundle, 1)
    return tmp_path / "models"


@pytest.fixture
def serving(repository):
    folder = ServingFolder(repository)
    yield folder
    folder.close()


def _change(repository, model, change):
    config = read_config(repository / model / CONFIG_FILE)
    change(config)
    write_config(config, repository / model)


def test_every_python_model_runs_this_vireos_own_file(repository, serving):
    layout, _ = serving.copy_repository()
    layout.write_slots()
    for model, name in MODEL_FILES.items():
        written = serving.root / f"{model}@1" / "1" / "model.py"
        assert written.read_text() == (FOLDER / name).read_text()
        assert (repository / model / "1" / "model.py").read_text() == FOREIGN  # not written through


def test_other_code_of_a_repository_is_not_shown_to_triton(repository, serving):
    version = repository / "text_encoder" / "1"
    code = ("libtriton_python.so", "libx.so.1", "triton_python_backend_stub", "json.py", "x.pth")
    for folder in (version, version.parent):
        for name in code:
            (folder / name).touch()
    (version / "__pycache__").mkdir()
    (version / "__pycache__" / "model.cpython-310.pyc").touch()
    (version / "model.onnx").touch()
    layout, _ = serving.copy_repository()
    layout.write_slots()
    shown = serving.root / "text_encoder@1"
    assert {path.name for path in shown.iterdir()} == {"1", CONFIG_FILE}
    assert {path.name for path in (shown / "1").iterdir()} == {
        "model.onnx", "model.py", "__pycache__"
    }  # fmt: skip
    assert (shown / "1" / "__pycache__").is_file()


def test_a_python_model_of_an_unknown_name_is_refused(repository, serving):
    (repository / "rerank" / "1").mkdir(parents=True)
    config = read_config(repository / "preprocess_text" / CONFIG_FILE)
    config.name = "rerank"
    write_config(config, repository / "rerank")
    with pytest.raises(BundleError, match=r"rerank is a Python model, .* code .* is not run"):
        serving.copy_repository()


@pytest.mark.parametrize(
    "change",
    [
        lambda config: setattr(config.parameters["EXECUTION_ENV_PATH"], "string_value", "x.tar.gz"),
        lambda config: config.model_operations.op_library_filename.append("libops.so"),
        lambda config: setattr(config, "default_model_filename", "other.py"),
        lambda config: setattr(config, "default_model_filename", "../../stranger.py"),
        lambda config: setattr(config, "runtime", "libtriton_own.so"),
        lambda config: config.model_repository_agents.agents.add(name="own"),
        lambda config: config.cc_model_filenames.update({"8.9": "../../stranger.plan"}),
    ],
)
def test_a_configuration_that_brings_code_is_refused(repository, serving, change):
    _change(repository, "text_encoder", change)
    with pytest.raises(BundleError, match=r"text_encoder names code of its own, or a file outside"):
        serving.copy_repository()


def test_a_publication_knows_which_vireo_exported_it(repository, serving):
    publication = serving.copy_repository()[0].publication
    assert publication.exported_with() == {__version__}
    for model in (*FILES, "embed_text", "embed_image"):
        if (repository / model).is_dir():
            _change(repository, model, lambda c: c.parameters.pop(exported_with.PARAMETER))
    assert serving.copy_repository()[0].publication.exported_with() == {None}
