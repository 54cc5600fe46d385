"""Programs that tests start and stop."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from typing import Any


def start(command: Sequence[Any], **options: Any) -> subprocess.Popen[str]:
    """Starts a program in which Ctrl-C works.

    A shell starts background jobs, perhaps this test run, with SIGINT ignored; children inherit it.
    """
    return subprocess.Popen(
        [str(word) for word in command], text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler), **options,
    )  # fmt: skip
