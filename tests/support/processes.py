"""Programs that tests start and stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any


def start(command: Sequence[Any], **options: Any) -> subprocess.Popen[str]:
    """Starts a program in which Ctrl-C works.

    A shell starts background jobs, perhaps this test run, with SIGINT ignored; children inherit it.
    """
    return subprocess.Popen(
        [str(word) for word in command], text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler), **options,
    )  # fmt: skip


def run_python(*words: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in a new interpreter, which imports what this one does.

    Args:
        words: `-c` or `-m`, and what follows it.
        environment: variables to set besides.
    """
    return subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment, check=False,
    )  # fmt: skip


def in_fork(work: Callable[[], Any], seconds: float = 60) -> Any:
    """Runs `work` in a forked child of this process, and returns its result by way of JSON.

    A child that hangs is killed after `seconds`.

    """
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        try:
            signal.alarm(int(seconds))
            try:
                answer = {"result": work()}
            except BaseException:
                answer = {"error": traceback.format_exc()}
            with open(sending, "w") as file:
                json.dump(answer, file)
        finally:
            os._exit(0)
    os.close(sending)
    with open(receiving) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    assert not status, f"the child ended by {status}"
    answer = json.loads(text)
    assert "error" not in answer, answer["error"]
    return answer["result"]
