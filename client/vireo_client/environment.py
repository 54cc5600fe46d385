"""The environment variables of all of Vireo's packages. No other module reads one of them.

An option of a command that stands beside a variable wins over it.

- `VIREO_INDEX`: the folder of the index (`--index`).
- `VIREO_MODEL`: the model repository (`--model`).
- `VIREO_TRITON`: the address of the Triton server that embeds (`--triton`).
- `VIREO_TLS_CA`, `VIREO_TLS_CERT`, `VIREO_TLS_KEY`: PEM files of that connection (`--tls-ca`,
  `--tls-cert`, `--tls-key`).
- `VIREO_REQUEST_TIMEOUT`, `VIREO_CONNECT_TIMEOUT`: its patience in seconds (`--request-timeout`,
  `--connect-timeout`). `VIREO_RETRIES`: how often a request is sent again (`--retries`).
- `VIREO_HEADERS`: what is sent with each of its requests, a `NAME: VALUE` a line (`--header`).
- `VIREO_WEB_KEY`: a key that callers of `vireo web` must show (`--key`).
- `VIREO_ADMIN_KEY`: the key that `vireo serve` asks for before a client may load models
  (`--admin-key-file`).
- `VIREO_TRITON_CARRIER`: the folder of the Triton carrier; by default inside the environment.
- `VIREO_RESTARTS_ENGINE`, `VIREO_RESTARTS_SERVER`: how often `vireo serve` has started Triton anew,
  by cause. It sets them itself, for the models in Triton, which report them as metrics.
- `VIREO_DATA`: the data folder, in which VnCoreNLP's files are looked for.
- `VIREO_OFFLINE`: set to 1, nothing is downloaded.
- `VIREO_ALLOW_OUTSIDE`: set to 1, a captions file may name images outside its own folder.
- `VIREO_VNCORENLP_URL`: the address that VnCoreNLP's model files are downloaded from.

Two variables of others are read too: `XDG_STATE_HOME`, the folder of what a user's programs
remember, and `XDG_CACHE_HOME`, that of what they can make again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Read by the command line, which also shows them in its help.
INDEX = "VIREO_INDEX"
MODEL = "VIREO_MODEL"
TRITON = "VIREO_TRITON"
TLS_CA = "VIREO_TLS_CA"
TLS_CERT = "VIREO_TLS_CERT"
TLS_KEY = "VIREO_TLS_KEY"
REQUEST_TIMEOUT = "VIREO_REQUEST_TIMEOUT"
CONNECT_TIMEOUT = "VIREO_CONNECT_TIMEOUT"
RETRIES = "VIREO_RETRIES"
WEB_KEY = "VIREO_WEB_KEY"

# Read by the functions below; error messages name them.
HEADERS = "VIREO_HEADERS"
ADMIN_KEY = "VIREO_ADMIN_KEY"
TRITON_CARRIER = "VIREO_TRITON_CARRIER"
RESTARTS = {"engine": "VIREO_RESTARTS_ENGINE", "server": "VIREO_RESTARTS_SERVER"}
DATA = "VIREO_DATA"
OFFLINE = "VIREO_OFFLINE"
ALLOW_OUTSIDE = "VIREO_ALLOW_OUTSIDE"
VNCORENLP_URL = "VIREO_VNCORENLP_URL"


def headers() -> list[str]:
    """Return the headers of requests to Triton, a `NAME: VALUE` each."""
    return [line for line in (_value(HEADERS) or "").splitlines() if line.strip()]


def admin_key() -> str | None:
    """Return the admin key of `vireo serve`; None where the variable is absent or empty."""
    return _value(ADMIN_KEY)


def triton_carrier() -> Path | None:
    """Return the folder of the Triton carrier; None where the variable names none."""
    return _folder(TRITON_CARRIER)


CARRIER_BINARY = "pytriton/tritonserver/bin/tritonserver"
"""The server's program in the folder of the Triton carrier."""


def carrier_folder() -> Path:
    """Return the folder of the Triton carrier: `VIREO_TRITON_CARRIER`, or in this environment."""
    return triton_carrier() or Path(sys.prefix) / "share" / "vireo" / "triton"


def restarts() -> dict[str, int]:
    """Return how often Triton has been started anew, by cause; 0 outside `vireo serve`."""
    return {cause: int(_value(name) or 0) for cause, name in RESTARTS.items()}


def data_folder() -> Path | None:
    """Return the data folder; None where the variable names none."""
    return _folder(DATA)


def offline() -> bool:
    """Return whether downloads are forbidden; 0 and an empty value allow them."""
    return (_value(OFFLINE) or "0") != "0"


def allow_outside() -> bool:
    """Return whether a data set may name images outside its folder; 0 and nothing forbid it."""
    return (_value(ALLOW_OUTSIDE) or "0") != "0"


def vncorenlp_url() -> str | None:
    """Return the address of VnCoreNLP's model files; None for the project's own."""
    return _value(VNCORENLP_URL)


def state_folder() -> Path:
    """Return the folder of what the commands remember, such as the history of the prompt."""
    return (_folder("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "vireo"


def cache_folder() -> Path:
    """Return the folder of what Vireo can make again; it need not exist."""
    return (_folder("XDG_CACHE_HOME") or Path.home() / ".cache") / "vireo"


def _value(name: str) -> str | None:
    # Containers set a variable that nobody gave to the empty string.
    return os.environ.get(name) or None


def _folder(name: str) -> Path | None:
    value = _value(name)
    return Path(value) if value else None
