"""TLS on the client's side: trust in the server, and the client's own certificate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import ServerError

SCHEME = "grpcs://"


@dataclass(frozen=True, slots=True)
class ClientTls:
    """PEM files for a connection to a server that speaks TLS."""

    ca: str | Path | None = None
    """The certificate of the authority that signed the server's; by default those that the gRPC
    library brings."""
    cert: str | Path | None = None
    """This client's certificate, for a server that asks for one (mutual TLS)."""
    key: str | Path | None = None
    """The private key of that certificate."""

    def channel_arguments(self) -> dict[str, str | bool]:
        """Return the arguments for `tritonclient.grpc.InferenceServerClient`.

        Raises:
            ServerError: a file cannot be read, or of certificate and key only one is given.
        """
        if (self.cert is None) != (self.key is None):
            raise ServerError("a client's TLS certificate and its key go together; give both")
        files = {"root_certificates": self.ca, "certificate_chain": self.cert,
                 "private_key": self.key}  # fmt: skip
        arguments: dict[str, str | bool] = {"ssl": True}
        for name, file in files.items():
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
    """Make the settings of a command's options; None if no option is given."""
    return ClientTls(ca, cert, key) if ca or cert or key else None


def split_url(url: str, tls: ClientTls | None) -> tuple[str, ClientTls | None]:
    """Split the scheme from an address; `grpcs://` asks for TLS, as a given `tls` does."""
    if url.startswith(SCHEME):
        return url.removeprefix(SCHEME), tls or ClientTls()
    return url.removeprefix("grpc://"), tls
