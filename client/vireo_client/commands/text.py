"""`vireo text`"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..printing import json_line, printable_lines, say
from .options import JsonOption

if TYPE_CHECKING:
    from vireo_client.text.pipeline import TextPath, WordPath


def text(
    query: Annotated[str | None, typer.Argument(metavar="TEXT", help="A Vietnamese text.")] = None,
    file: Annotated[Path | None, typer.Option(help="Read texts from this file, one a line; - is standard input.")] = None,
    segmenter: Annotated[str, typer.Option(help="auto, vncorenlp, py_vncorenlp, pyvi or none.")] = "auto",
    model: Annotated[Path | None, typer.Option(help="The folder with the segmenter's files.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="A folder with tokenizer.json, or PhoBERT's vocab.txt and bpe.codes.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Take segmenter and tokenizer from this bundle or model repository.")] = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Show what becomes of a text: normalised, segmented, tokens, ids, bucket.

    Example: `vireo text "hai con chó trên bãi cỏ" --bundle runs/demo/bundle`

    Many texts, by PhoBERT's own files: `vireo text --file captions.txt --segmenter vncorenlp
    --tokenizer phobert/ --json`
    """
    if (query is None) == (file is None):
        raise typer.BadParameter("give a text, or --file FILE, and not both")
    path = _text_path(segmenter, model, tokenizer, bundle)
    texts = _lines(file) if file is not None else iter([query or ""])
    try:
        for line in texts:
            stages = asdict(path.stages(line))
            if as_json:
                say(json_line(stages))
            else:
                _show(stages, path.segmenter.name)
    except BrokenPipeError:
        # The reader ended ("| head"). The rest of the buffer is dropped, and so is the message that
        # Python would print at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _text_path(
    segmenter: str, model: Path | None, tokenizer: Path | None, bundle: Path | None
) -> TextPath | WordPath:
    """Load the whole text path; without a tokenizer, its part up to the words."""
    from vireo_client.text.pipeline import TextPath, WordPath

    if bundle is not None:
        if tokenizer is not None or model is not None or segmenter != "auto":
            raise typer.BadParameter("--bundle brings its own segmenter and tokenizer")
        from vireo_client.bundle import Bundle

        return TextPath.from_bundle(Bundle(bundle))
    from vireo_client.text.segment import load_segmenter

    words = load_segmenter(segmenter, model)
    if tokenizer is None:
        return WordPath(words)
    from vireo_client.text.tokenize import TextTokenizer, load_tokenizer

    return TextPath(words, TextTokenizer(load_tokenizer(tokenizer)))


def _lines(file: Path) -> Iterator[str]:
    """Yield the lines of a file, or of standard input for `-`, and count them on standard error.

    Raises:
        VireoError: If the file cannot be read.
    """
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    from vireo_client.errors import VireoError
    from vireo_client.progress import console

    columns = (TextColumn("{task.completed:,.0f} texts"), TimeElapsedColumn())
    try:
        # Only a line feed ends a line: other separators may stand inside a text.
        with (
            sys.stdin.buffer if str(file) == "-" else file.open("rb") as stream,
            Progress(*columns, console=console, disable=not console.is_terminal) as progress,
        ):
            task = progress.add_task("", total=None)
            for raw in stream:
                yield raw.rstrip(b"\r\n").decode("utf-8", "replace")
                progress.advance(task)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise VireoError(f"{file}: cannot be read ({error.strerror})") from error


def _show(stages: dict[str, Any], segmenter: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for stage, value in stages.items():
        label = f"{stage} ({segmenter})" if stage == "sentences" else stage
        separator = "\n" if stage == "sentences" else " "
        shown = separator.join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        # Not a plain string: brackets in a text are no markup.
        table.add_row(label, Text(printable_lines(shown)))
    Console().print(table)
