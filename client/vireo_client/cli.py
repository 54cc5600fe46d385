"""The `vireo` command: a tree of subcommands that packages register as entry points."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import entry_points

import typer
from rich.logging import RichHandler
from rich.text import Text

from . import __version__
from .errors import VireoError
from .extras import clashing_builds
from .printing import PrintableFormatter, error_text, printable_lines, say
from .progress import console

logger = logging.getLogger(__name__)

COMMANDS = "vireo.commands"
"""The entry-point group of the subcommands. An entry's name is the subcommand; its object is a
function for typer, or a typer app whose commands stand below that name. An app of one command and
without a callback is that subcommand itself, as in typer."""

# The order in which a newcomer meets them.
_ORDER = ("demo", "data", "train", "evaluate", "compare", "export", "rollback", "serve", "index",
          "search", "web", "embed", "text", "doctor")  # fmt: skip


def _print_version(requested: bool) -> None:
    if requested:
        say(f"vireo {__version__}")
        raise typer.Exit


def _root(
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Log more, and show tracebacks."),
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True,
                                 help="Print the version and exit."),
) -> None:  # fmt: skip
    """Find images from Vietnamese queries, captions from images, and images from images.

    Start with `vireo demo`: it trains a small model on generated scenes, exports it, serves it with
    Triton and searches it, in a few minutes.
    """
    handler: logging.Handler = logging.StreamHandler()
    if console.is_terminal:
        handler = RichHandler(console=console, show_time=False, show_path=False, markup=False)
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])
    # This process is the command's own. What libraries warn of, such as odd tags of a photo, is for
    # those who ask for it: it goes to the log, below the level that is shown.
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").setLevel(logging.INFO if verbose else logging.ERROR)
    for message in clashing_builds():
        logger.warning(message)


def build_app() -> typer.Typer:
    """Gather the subcommands of all installed packages."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown",
                      pretty_exceptions_enable=False)  # fmt: skip
    app.callback()(_root)
    order = {name: number for number, name in enumerate(_ORDER)}
    entries = sorted(entry_points(group=COMMANDS), key=lambda e: (order.get(e.name, 99), e.name))
    for entry in entries:
        command = entry.load()
        if not isinstance(command, typer.Typer):
            app.command(entry.name)(command)
        elif command.registered_callback or len(command.registered_commands) > 1:
            app.add_typer(command, name=entry.name)
        else:
            (only,) = command.registered_commands
            only.name = entry.name
            app.registered_commands.append(only)
    return app


class Terminated(KeyboardInterrupt):
    """SIGTERM came: a command ends as it does after Ctrl-C, and loses and leaves as little."""


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _terminate)
    run(lambda: build_app()())


def _terminate(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the second one ends the process at once
    raise Terminated


def run(app: Callable[[], object]) -> None:
    """Run a program; an error of the project becomes one line and exit code 1."""
    try:
        app()
    except BrokenPipeError:
        # The reader ended (`vireo search ... | head`); silence the flush at exit too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (VireoError, OSError) as error:  # a full disk, a folder that may not be written
        if "-v" in sys.argv or "--verbose" in sys.argv:
            console.print(Text(printable_lines(traceback.format_exc())), soft_wrap=True)
        line = Text.assemble(("error:", "red"), " ", printable_lines(error_text(error)))
        console.print(line, highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt as interrupt:
        console.print("interrupted")
        sys.exit(143 if isinstance(interrupt, Terminated) else 130)
