"""`vireo web` as a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from support.processes import start

_PROGRAM = """
import typer
from vireo_client.cli import run
from vireo_web.commands import web

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(web)
run(lambda: app())
"""


class Web(NamedTuple):
    """A `vireo web` that runs."""

    address: str
    """Without a `/` at its end."""
    pid: int


@contextmanager
def serving(*arguments: Any) -> Iterator[Web]:
    """Run `vireo web ARGUMENTS` on a free port of 127.0.0.1."""
    command = [sys.executable, "-u", "-c", _PROGRAM, *arguments, "--port", "0"]
    # The program imports what the tests import.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with tempfile.TemporaryFile("w+") as errors:  # a pipe that nobody reads would fill
        process = start(command, stdout=subprocess.PIPE, stderr=errors, env=environment)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"(http://\S+)/", line)
            if found is None:
                process.wait(30)
                errors.seek(0)
                raise AssertionError(line + errors.read())
            yield Web(found[1], process.pid)
        finally:
            process.terminate()
            process.wait(30)
            process.stdout.close()
