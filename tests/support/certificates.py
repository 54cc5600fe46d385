"""Certificates for servers and clients, made by the `openssl` command."""

from __future__ import annotations

import subprocess
from pathlib import Path


def write_certificates(folder: Path) -> Path:
    """Write an authority (`ca`), a `server` and a `client` that it signed, and another authority.

    Each has a `.pem` and a `.key`; the server's is of 127.0.0.1 and `localhost`.
    """
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


def _openssl(folder: Path, *words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], cwd=folder, check=True, capture_output=True)
