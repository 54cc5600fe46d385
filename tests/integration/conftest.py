"""These tests use torch."""

import shutil

import pytest
import support.torch_settings  # noqa: F401
from support.certificates import write_certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """An authority, certificates of a server and a client that it signed, and another authority."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is not installed")
    return write_certificates(tmp_path_factory.mktemp("certificates"))
