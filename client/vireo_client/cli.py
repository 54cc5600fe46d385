"""The `vireo` command: a tree of subcommands that packages register as entry points."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from importlib.metadata import entry_points

import typer
from rich.logging import RichHandler

from . import __version__
from .errors import VireoError
from .progress import console

COMMANDS = "vireo.commands"
"""Entry-point group: the name is the subcommand, the object a function for typer, or a typer app
whose commands stand below that name. The one command of an app that has no more is the subcommand
itself."""

# The order in which a newcomer meets them.
_ORDER = ("demo", "data", "train", "evaluate", "compare", "export", "rollback", "serve", "index",
          "search", "text")  # fmt: skip


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"vireo {__version__}")
        raise typer.Exit


def _root(
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Say more, and show tracebacks."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True,
                                 help="Print the version and exit."),
) -> None:  # fmt: skip
    """Finds pictures from Vietnamese sentences, sentences from pictures, pictures from pictures.

    Start with `vireo demo`: it trains a small model on generated scenes, exports it, serves it with
    Triton and searches it, in a few minutes.
    """
    handler: logging.Handler = logging.StreamHandler()
    if console.is_terminal:
        handler = RichHandler(console=console, show_time=False, show_path=False, markup=False)
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(message)s", handlers=[handler]
    )


def build_app() -> typer.Typer:
    """Gathers the subcommands of all installed packages."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown",
                      pretty_exceptions_enable=False)  # fmt: skip
    app.callback()(_root)
    known = {name: number for number, name in enumerate(_ORDER)}
    found = sorted(entry_points(group=COMMANDS), key=lambda e: (known.get(e.name, 99), e.name))
    for entry in found:
        command = entry.load()
        if isinstance(command, typer.Typer) and len(command.registered_commands) == 1:
            (only,) = command.registered_commands
            only.name = entry.name
            app.registered_commands.append(only)
        elif isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        else:
            app.command(entry.name)(command)
    return app


def main() -> None:
    """Runs the command line."""
    run(lambda: build_app()())


def run(app: Callable[[], object]) -> None:
    """Runs a program; errors of the project become one line and exit code 1."""
    try:
        app()
    except BrokenPipeError:
        # The reader went away (`vireo search ... | head`): silence the flush at exit too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (VireoError, OSError) as error:  # a full disk, a folder that may not be written
        if "-v" in sys.argv or "--verbose" in sys.argv:
            console.print_exception()
        console.print(f"[red]error:[/red] {_escape(_told(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("interrupted")
        sys.exit(130)


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
