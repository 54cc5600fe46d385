"""A running server's own figures, as Prometheus reads them."""

from __future__ import annotations

import re
import urllib.request

from vireo_serving.server.server import TritonServer

_LINE = re.compile(
    r'(?P<name>\w+)\{model="(?P<model>[^"@]+)(?P<slot>@[^"]*)?"[^}]*\} (?P<value>\S+)'
)


def metric(server: TritonServer, name: str, model: str) -> float:
    """Return the value of `name` for `model`, whatever name the server loaded its engine under."""
    url = f"http://127.0.0.1:{server.ports.metrics}/metrics"
    with urllib.request.urlopen(url, timeout=60) as answer:
        lines = [_LINE.match(line) for line in answer.read().decode().splitlines()]
    found = [m for m in lines if m and m["name"] == name and m["model"] == model]
    engines = [m for m in found if m["slot"]] or found
    return sum(float(m["value"]) for m in engines)
