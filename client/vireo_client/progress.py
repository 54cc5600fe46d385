"""Progress bars on standard error: standard output is for answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")

console = Console(stderr=True)


def progress_bar() -> Progress:
    """Make a bar that shows count, elapsed and remaining time; it draws only on a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def track(items: Sequence[T], label: str) -> Iterator[T]:
    """Yield `items` behind a progress bar."""
    with progress_bar() as progress:
        yield from progress.track(items, description=label)
