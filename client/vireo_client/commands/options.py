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
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, help="Threads that read and decode; by default as many as this process has cores.")]  # fmt: skip
AllowOutsideOption = Annotated[bool, typer.Option("--allow-outside", help="Let a list name files outside its folder.")]  # fmt: skip
NulOption = Annotated[bool, typer.Option("-0", help="Paths on standard input end with NUL, as `find -print0` writes them.")]  # fmt: skip
TargetRecallOption = Annotated[float, typer.Option("--target-recall", min=0.5, max=1.0, help="The recall@10 that it is tuned for.")]  # fmt: skip
HalfOption = Annotated[bool, typer.Option("--half", help="Write FP16: half the size; cosines differ in the fourth digit.")]  # fmt: skip


def dtype_of(half: bool) -> str:
    """Return the dtype that `--half` stands for."""
    return "float16" if half else "float32"
