"""These tests use torch."""

import shutil
import subprocess

import pytest
import support.torch_settings  # noqa: F401


def _openssl(folder, *words):
    subprocess.run(["openssl", *map(str, words)], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """An authority, certificates of a server and a client that it signed, and another authority."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is not installed")
    folder = tmp_path_factory.mktemp("certificates")
    new = ["req", "-newkey", "rsa:2048", "-nodes"]
    for name in ("ca", "other"):
        subject = ["-subj", f"/CN=Vireo test {name}"]
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
        _openssl(folder, *new, "-x509", "-days", "2", *subject, *files)
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"]
    for name in ("server", "client"):
        files = ["-keyout", f"{name}.key", "-out", f"{name}.csr"]
        _openssl(folder, *new, "-subj", f"/CN={name}", *files)
        files = ["-in", f"{name}.csr", "-extfile", "names", "-out", f"{name}.pem"]
        _openssl(folder, "x509", "-req", *signed, *files)
    return folder
