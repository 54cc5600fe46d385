"""How a client trusts a server, and shows who it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import ServerError

SCHEME = "grpcs://"


@dataclass(frozen=True, slots=True)
class ClientTls:
    """PEM files for a connection to a server that speaks TLS."""

    ca: str | Path | None = None
    """The authority that signed the server's certificate; by default those of the gRPC library."""
    cert: str | Path | None = None
    """This client's certificate, for a server that asks for one (mutual TLS)."""
    key: str | Path | None = None
    """Its private key."""

    def channel_arguments(self) -> dict[str, str | bool]:
        """What `tritonclient.grpc.InferenceServerClient` wants to know.

        Raises:
            ServerError: a file cannot be read, or of certificate and key only one is given.
        """
        if (self.cert is None) != (self.key is None):
            raise ServerError("a client's TLS certificate and its key go together; give both")
        named = {"root_certificates": self.ca, "certificate_chain": self.cert,
                 "private_key": self.key}  # fmt: skip
        arguments: dict[str, str | bool] = {"ssl": True}
        for name, file in named.items():
            if file is None:
                continue
            check_pem(Path(file))
            arguments[name] = str(file)
        return arguments


def check_pem(file: Path) -> None:
    """Check that a file can be read and is in the PEM format.

    Raises:
        ServerError: it cannot be read, or is in another format.
    """
    try:
        pem = file.read_bytes()
    except OSError as error:
        raise ServerError(f"{file}: cannot be read ({error.strerror})") from None
    if b"-----BEGIN " not in pem:
        raise ServerError(f"{file}: no PEM file; it begins with -----BEGIN")


def tls_from(ca: Path | None, cert: Path | None, key: Path | None) -> ClientTls | None:
    """What a command's options say; None where none is given."""
    return ClientTls(ca, cert, key) if ca or cert or key else None


def split_url(url: str, tls: ClientTls | None) -> tuple[str, ClientTls | None]:
    """Takes `grpcs://` or `grpc://` off an address; the first asks for TLS, as `tls` does."""
    if url.startswith(SCHEME):
        return url.removeprefix(SCHEME), tls or ClientTls()
    return url.removeprefix("grpc://"), tls
