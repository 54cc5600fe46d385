"""How the command line ends."""

import subprocess
import sys

import pytest

_RUN = """
import signal, sys
from pathlib import Path
from vireo_client import cli

def work():
    try:
        signal.raise_signal(signal.{signal})
    finally:
        Path({left!r}).unlink()

cli.build_app = lambda: work
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
cli.main()
"""


@pytest.mark.parametrize(("signal", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_command_that_is_told_to_end_cleans_up_and_says_so(tmp_path, signal, code):
    left = tmp_path / "draft"
    left.touch()
    script = _RUN.format(signal=signal, left=str(left))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (code, "interrupted\n")
    assert not left.exists()
