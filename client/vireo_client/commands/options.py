"""Options that several commands share, each declared once."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import environment
from ..errors import ServerError

if TYPE_CHECKING:
    from ..towers.connection import ConnectionOptions

DEFAULT_INDEX = Path("vireo-index")


class SharedMemory(str, Enum):
    """The kinds of memory that can be shared with a server, as a choice on the command line."""

    system = "system"
    cuda = "cuda"


IndexOption = Annotated[Path, typer.Option("--index", envvar=environment.INDEX, help="The folder of the index.")]  # fmt: skip
ModelOption = Annotated[Path, typer.Option("--model", envvar=environment.MODEL, help="The model repository that `vireo export` wrote.")]  # fmt: skip
IndexedModelOption = Annotated[Path | None, typer.Option("--model", envvar=environment.MODEL, help="The model repository; by default the one that the index was made with.")]  # fmt: skip
TritonOption = Annotated[str | None, typer.Option("--triton", envvar=environment.TRITON, metavar="[grpcs://]HOST:PORT", help="Embed through this Triton, or through several of one bundle, joined by commas; by default in this process.")]  # fmt: skip
TlsCaOption = Annotated[Path | None, typer.Option("--tls-ca", envvar=environment.TLS_CA, help="PEM file of the authority that signed the certificate of --triton; asks for TLS.")]  # fmt: skip
TlsCertOption = Annotated[Path | None, typer.Option("--tls-cert", envvar=environment.TLS_CERT, help="PEM file of this client's own certificate, where --triton asks for one.")]  # fmt: skip
TlsKeyOption = Annotated[Path | None, typer.Option("--tls-key", envvar=environment.TLS_KEY, help="PEM file of its private key.")]  # fmt: skip
RequestTimeoutOption = Annotated[float | None, typer.Option("--request-timeout", envvar=environment.REQUEST_TIMEOUT, metavar="SECONDS", help="How long --triton may take for a batch, retries included; by default 60.")]  # fmt: skip
ConnectTimeoutOption = Annotated[float | None, typer.Option("--connect-timeout", envvar=environment.CONNECT_TIMEOUT, metavar="SECONDS", help="How long --triton may take to accept a connection; by default 5.")]  # fmt: skip
RetriesOption = Annotated[int | None, typer.Option("--retries", envvar=environment.RETRIES, metavar="N", help="How often a request is sent again while --triton is away or its queue is full; by default 2.")]  # fmt: skip
HeaderOption = Annotated[list[str] | None, typer.Option("--header", metavar="'NAME: VALUE'", help=f"Send this with each request to --triton, such as 'authorization: Bearer TOKEN'; may be repeated. @FILE takes a header a line from a file, which keeps a secret out of the list of processes; so does {environment.HEADERS}.")]  # fmt: skip
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, help="Threads that read and decode; by default as many as this process has cores.")]  # fmt: skip
AllowOutsideOption = Annotated[bool, typer.Option("--allow-outside", help="Let a list name files outside its folder.")]  # fmt: skip
NulOption = Annotated[bool, typer.Option("-0", help="Paths on standard input end with NUL, as `find -print0` writes them.")]  # fmt: skip
TargetRecallOption = Annotated[float, typer.Option("--target-recall", min=0.5, max=1.0, help="The recall@10 that it is tuned for.")]  # fmt: skip
SharedMemoryOption = Annotated[SharedMemory | None, typer.Option("--shared-memory", help="Hand images to a --triton on this machine in shared memory: of the system, or of the first GPU. With `vireo serve` it needs the admin key as a --header.")]  # fmt: skip
HalfOption = Annotated[bool, typer.Option("--half", help="Write FP16: half the size; cosines differ in the fourth digit.")]  # fmt: skip


def dtype_of(half: bool) -> str:
    """Return the dtype that `--half` stands for."""
    return "float16" if half else "float32"


def connection_from(
    request_timeout: float | None,
    connect_timeout: float | None,
    retries: int | None,
    headers: list[str] | None,
    shared_memory: SharedMemory | None = None,
) -> ConnectionOptions:
    """Make the options of a connection from those of a command; what is not given is the default.

    Headers that were given stand in place of those of the environment.

    Raises:
        ServerError: an option has a value that cannot be, or a file of headers cannot be read.
    """
    from ..towers.connection import ConnectionOptions

    return ConnectionOptions(
        headers=_read_headers(headers) if headers else _headers_of_the_environment(),
        shared_memory=shared_memory.value if shared_memory else None,
    ).with_given(request_timeout=request_timeout, connect_timeout=connect_timeout, retries=retries)


def _read_headers(words: list[str]) -> dict[str, str]:
    """Read `NAME: VALUE` and `@FILE`."""
    read: dict[str, str] = {}
    for word in words:
        if word.startswith("@"):
            read |= _parse(_lines_of(Path(word[1:])), word[1:])
        else:
            read |= _parse([word], "--header")
    return read


def _headers_of_the_environment() -> dict[str, str]:
    return _parse(environment.headers(), environment.HEADERS)


def _parse(lines: list[str], where: str) -> dict[str, str]:
    """Read a header a line; an error never quotes a value, which may be a secret."""
    read: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ServerError(f"{where}: a header has no colon; write it as 'NAME: VALUE'")
        read[name.strip().lower()] = value.strip()
    return read


def _lines_of(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ServerError(f"{file}: headers cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ServerError(f"{file}: headers are not in UTF-8") from None
    return [line for line in text.splitlines() if line.strip()]
