"""Messages of a model repository."""

import shlex
import shutil

import pytest
from vireo_client.errors import BundleError
from vireo_client.repository import IMAGE_MODEL, model_file


def test_a_command_in_a_message_quotes_the_path(repository, tmp_path):
    folder = tmp_path / "my models"
    shutil.copytree(repository.folder, folder)
    engine = model_file(folder, IMAGE_MODEL)
    engine.rename(engine.with_name("model.plan"))
    with pytest.raises(BundleError) as error:
        model_file(folder, IMAGE_MODEL)
    command = str(error.value).split("`")[1]
    assert shlex.split(command) == ["vireo", "serve", str(folder)]
