"""`vireo web` as a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.processes import start

_PROGRAM = """
import typer
from vireo_client.cli import run
from vireo_web.commands import web

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(web)
run(lambda: app())
"""


@contextmanager
def serving(*arguments: Any) -> Iterator[str]:
    """Run `vireo web ARGUMENTS` on a free port of 127.0.0.1; yield its address, without `/`."""
    command = [sys.executable, "-u", "-c", _PROGRAM, *arguments, "--port", "0"]
    # Errors go where those of the tests go; the program imports what they import.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = start(command, stdout=subprocess.PIPE, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"(http://\S+)/", line)
        assert found, line + process.stdout.read()
        yield found[1]
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()
