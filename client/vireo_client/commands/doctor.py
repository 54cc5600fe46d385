"""`vireo doctor`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import environment
from .options import (
    DEFAULT_INDEX,
    ConnectTimeoutOption,
    HeaderOption,
    IndexedModelOption,
    TlsCaOption,
    TlsCertOption,
    TlsKeyOption,
    TritonOption,
    connection_from,
)


def doctor(
    index: Annotated[Path | None, typer.Option(envvar=environment.INDEX, help=f"An index that would be searched; by default {DEFAULT_INDEX}, if it is there.")] = None,
    model: IndexedModelOption = None,
    triton: TritonOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    connect_timeout: ConnectTimeoutOption = None,
    header: HeaderOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:  # fmt: skip
    """Show what is installed, which Triton and GPU there are, what would be used, what is missing.

    The exit code is 1 where something is broken that is needed or was named by an option.

    Example: `vireo doctor --triton 127.0.0.1:8001 --index my-photos`
    """
    from ..diagnosis import diagnose, is_healthy
    from ..printing import json_line, say
    from ..towers.tls import tls_from

    if index is None and DEFAULT_INDEX.is_dir():
        index = DEFAULT_INDEX
    tls = tls_from(tls_ca, tls_cert, tls_key)
    connection = connection_from(None, connect_timeout, None, header)
    findings = []
    for finding in diagnose(index, model, triton, tls, connection):
        findings.append(finding)
        if not as_json:  # as they come: a server may take seconds to answer
            say(f"{finding.state:<8} {finding.topic}: {finding.found}")
            if finding.advice:
                say(f"{'':<8}   {finding.advice}")
    healthy = is_healthy(findings)
    if as_json:
        found = [finding._asdict() for finding in findings]
        say(json_line({"healthy": healthy, "findings": found}))
    if not healthy:
        raise typer.Exit(1)
