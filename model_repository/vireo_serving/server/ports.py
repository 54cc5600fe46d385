"""Ports of Triton's endpoints: chosen, and checked before anything starts."""

from __future__ import annotations

import socket
from dataclasses import dataclass, fields

from vireo_client.errors import ServerError


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports of the three endpoints; 0 picks a free one."""

    http: int = 8000
    grpc: int = 8001
    metrics: int = 8002


def claim(ports: Ports, host: str, http_host: str) -> Ports:
    """Check that the ports are free, and pick free ones for those that are 0.

    Args:
        ports: the ports.
        host: address of gRPC and of the metrics.
        http_host: address of HTTP.

    Raises:
        ServerError: a port is taken, or an address is none of this machine.
    """
    held: list[socket.socket] = []
    numbers: list[int] = []
    try:
        for field in fields(Ports):
            wanted = getattr(ports, field.name)
            option, address = (
                ("--http-host", http_host) if field.name == "http" else ("--host", host)
            )
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            probe = socket.socket(family)
            held.append(probe)  # all are held until all are known, so that no two are the same
            # Triton sets this too: without it a port in TIME_WAIT would look taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, 0))
            except OSError as error:
                raise ServerError(
                    f"{option} {address}: not an address of this machine ({error.strerror}); "
                    "0.0.0.0 listens on all of them"
                ) from None
            probe.close()
            held[-1] = probe = socket.socket(family)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, wanted))
                probe.listen(1)
            except (OSError, OverflowError):
                raise ServerError(
                    f"port {wanted} ({field.name}) is in use on {address}; "
                    f"choose another with --{field.name}-port (0 picks a free one)"
                ) from None
            numbers.append(probe.getsockname()[1])
    finally:
        for probe in held:
            probe.close()
    return Ports(*numbers)
