"""The server options that an operator may set, and Triton's flags for them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vireo_client import environment
from vireo_client.errors import ServerError
from vireo_client.towers.tls import check_pem

from ..admin import KEY_HEADER
from .ports import Ports

LOOPBACK = "127.0.0.1"
RESTRICTED = "model-repository,shared-memory,trace,logging"
"""Protocols that change or read the server's state; searching needs none of them."""
_KEY = re.compile(r"[A-Za-z0-9._~-]{16,}")  # Triton splits its flag at "," and "="


def random_key() -> str:
    """Return a key that only this process knows."""
    return secrets.token_urlsafe(24)


def read_key(file: Path | None) -> str:
    """Read the admin key from a file, else from `VIREO_ADMIN_KEY`, else make a random one.

    Raises:
        ServerError: the file cannot be read, or the key is too short or has other characters.
    """
    if file is not None:
        try:
            key, source = file.read_text(encoding="utf-8").strip(), str(file)
        except (OSError, UnicodeDecodeError) as error:
            raise ServerError(f"--admin-key-file {file}: cannot be read ({error})") from None
    elif variable := environment.admin_key():
        key, source = variable.strip(), environment.ADMIN_KEY
    else:
        return random_key()
    if not _KEY.fullmatch(key):
        raise ServerError(
            f"{source}: an admin key has 16 characters or more, all of them letters, digits or one "
            "of . _ ~ -; `openssl rand -hex 24` makes one"
        )
    return key


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM files for the gRPC endpoint."""

    cert: Path
    """The server's certificate, with those between it and its authority."""
    key: Path
    client_ca: Path | None = None
    """Only clients with a certificate of this authority may connect (mutual TLS)."""

    def __post_init__(self) -> None:
        for file in filter(None, (self.cert, self.key, self.client_ca)):
            check_pem(file)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Addresses, keys, certificates, cache and traces of a server."""

    host: str = LOOPBACK
    """Address of gRPC and of the metrics; 0.0.0.0 is every one."""
    http_host: str = LOOPBACK
    """Address of HTTP. Triton cannot encrypt it, and one damaged request over HTTP ends releases
    before 25.07 (docs/security.md); `vireo serve` itself needs it, on this machine."""
    admin_key: str = field(default_factory=random_key, repr=False)
    """Opens the protocols `RESTRICTED`."""
    model_control: bool = True
    """Whether Triton loads models while it runs, for whoever has the key. Without, nobody can make
    it load one, and a publication is served by starting Triton anew."""
    tls: ServerTls | None = None
    cache_mib: int = 64
    """Response cache shared by all models that ask for one; 0 turns it off."""
    trace_url: str | None = None
    """OpenTelemetry collector, such as http://127.0.0.1:4318/v1/traces."""
    trace_rate: int = 1000
    """One request in so many is traced."""

    def flags(self, ports: Ports) -> Iterator[str]:
        """Yield Triton's flags, without those that name its folders."""
        if self.model_control:
            yield "--model-control-mode=explicit"
            yield "--load-model=*"
        else:
            yield "--model-control-mode=none"
        yield f"--grpc-address={self.host}"
        yield f"--http-address={self.http_host}"
        yield f"--metrics-address={self.host}"
        for endpoint in ("http", "grpc", "metrics"):
            yield f"--{endpoint}-port={getattr(ports, endpoint)}"
        # Objects of requests are kept for the next ones, at the size of the largest so far.
        yield "--grpc-infer-allocation-pool-size=0"
        yield f"--grpc-restricted-protocol={RESTRICTED}:{KEY_HEADER}={self.admin_key}"
        yield f"--http-restricted-api={RESTRICTED}:{KEY_HEADER}={self.admin_key}"
        # p50 and p99 of each stage; later versions have histograms, which say more; 2.51 has none.
        yield "--metrics-config=summary_latencies=true"
        yield "--metrics-config=summary_quantiles=0.5:0.01,0.9:0.01,0.99:0.001"
        if self.cache_mib:
            yield f"--cache-config=local,size={self.cache_mib << 20}"
        if self.tls:
            mutual = "-mutual" if self.tls.client_ca else ""
            yield f"--grpc-use-ssl{mutual}=true"
            yield f"--grpc-server-cert={self.tls.cert}"
            yield f"--grpc-server-key={self.tls.key}"
            if self.tls.client_ca:
                yield f"--grpc-root-cert={self.tls.client_ca}"
        if self.trace_url:
            yield "--trace-config=mode=opentelemetry"
            yield "--trace-config=level=TIMESTAMPS"
            yield f"--trace-config=rate={self.trace_rate}"
            yield f"--trace-config=opentelemetry,url={self.trace_url}"
            yield "--trace-config=opentelemetry,resource=service.name=vireo"
