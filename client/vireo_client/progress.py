"""Progress bars on standard error: standard output is for answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from .printing import printable

T = TypeVar("T")

console = Console(stderr=True)


def note(*lines: object, style: str = "") -> None:
    """Print lines on standard error, above a bar that is drawn there, each as `printable`."""
    console.print(Text("\n".join(map(printable, lines)), style), soft_wrap=True)


class _DescriptionColumn(ProgressColumn):
    """What is done: a text, in which brackets are no markup."""

    def render(self, task: Task) -> Text:
        return Text(printable(task.description))


class _RateColumn(ProgressColumn):
    """How many items are done a second, over the last half minute."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f} {self._unit}")


def progress_bar(*, rate: str | None = None) -> Progress:
    """Make a bar that shows count, elapsed and remaining time; it draws only on a terminal.

    Args:
        rate: the unit of a speed to show too, as "images/s".
    """
    return Progress(
        _DescriptionColumn(),
        BarColumn(),
        MofNCompleteColumn(),
        *([_RateColumn(rate)] if rate else []),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


@contextmanager
def step_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function that shows a bar for each step of a long work.

    It takes the step's name, what is done of it and what there is to do.
    """
    with progress_bar() as progress:
        tasks: dict[str, TaskID] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(step)
            progress.update(tasks[step], completed=done, total=total)

        yield show


def track(items: Sequence[T], label: str) -> Iterator[T]:
    """Yield `items` behind a progress bar."""
    with progress_bar() as progress:
        yield from progress.track(items, description=label)
