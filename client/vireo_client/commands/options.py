"""Options that several commands share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import environment

DEFAULT_INDEX = Path("vireo-index")

IndexOption = Annotated[Path, typer.Option("--index", envvar=environment.INDEX, help="The folder of the index.")]  # fmt: skip
ModelOption = Annotated[Path, typer.Option("--model", envvar=environment.MODEL, help="The model repository that `vireo export` wrote.")]  # fmt: skip
IndexedModelOption = Annotated[Path | None, typer.Option("--model", envvar=environment.MODEL, help="The model repository; by default the one that the index was made with.")]  # fmt: skip
TritonOption = Annotated[str | None, typer.Option("--triton", envvar=environment.TRITON, metavar="[grpcs://]HOST:PORT", help="Embed through this Triton, or through several of one bundle, joined by commas; by default in this process.")]  # fmt: skip
TlsCaOption = Annotated[Path | None, typer.Option("--tls-ca", envvar=environment.TLS_CA, help="PEM file of the authority that signed the certificate of --triton; asks for TLS.")]  # fmt: skip
TlsCertOption = Annotated[Path | None, typer.Option("--tls-cert", envvar=environment.TLS_CERT, help="PEM file of this client's own certificate, where --triton asks for one.")]  # fmt: skip
TlsKeyOption = Annotated[Path | None, typer.Option("--tls-key", envvar=environment.TLS_KEY, help="PEM file of its private key.")]  # fmt: skip
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
