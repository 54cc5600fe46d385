"""The scripts of this folder, as parts of the reports.

Each is run by its file name, as before, and imports its neighbours as plain modules.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).resolve().parents[1]


def module(name: str) -> ModuleType:
    """Import a plain module of the folder, such as `spread`."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    return importlib.import_module(name)


def run(name: str, output: Path, *words: object) -> dict[str, Any]:
    """Run a script and return the result file that it wrote.

    Args:
        name: the script's name without its ending.
        output: the result file.
        words: further words of its command line.

    Raises:
        RuntimeError: the script failed; the message holds the last line that it printed.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--output", str(output)]
    command += map(str, words)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise RuntimeError(f"benchmarks/{name}.py failed: {' '.join(last)}")
    found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return found
