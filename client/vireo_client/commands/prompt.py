"""The prompt of `vireo search`: a query a line, and commands that begin with a colon."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TextIO, TypeVar

import typer

from .. import environment
from ..archived import read_archived
from ..errors import DataError, ImageError, VireoError
from ..index.matches import Match, Matches
from ..printing import error_text, say
from ..ranking import SearchOptions
from ..search import SearchClient
from .query_files import read_lines
from .showing import answer_line, can_draw, draw_sheet, show

logger = logging.getLogger(__name__)

T = TypeVar("T", int, float)

HELP = """\
A query finds images. What begins with a colon is a command:
  :k N               show N hits
  :open N            open hit N in the viewer of this system
  :like N            find images like hit N
  :image FILE        find images like a file
  :filter EXPRESSION search only images of which this holds; without one, all
  :hybrid on|off     rank by words too
  :min-relevance X   leave out hits below X, 0 to 1 (0.9 to begin with); without one, none
  :sheet FILE        draw the last hits into an image file
  :help              show this
  :quit              end; Ctrl-D does too"""

_PROMPT = "vireo> "
_HISTORY_LINES = 1000


class Prompt:
    """Asks for queries and answers them, until the input ends.

    Args:
        client: an open client.
        k: hits of each query, at first.
        options: of all searches, at first.
        hybrid: whether words count too, at first.
        captions: whether captions are searched.
        as_json: whether answers are JSON, one object a line.
    """

    def __init__(
        self,
        client: SearchClient,
        k: int,
        options: SearchOptions,
        *,
        hybrid: bool = False,
        captions: bool = False,
        as_json: bool = False,
    ) -> None:
        self._client = client
        self._k = k
        self._options = options.copy()
        self._hybrid = hybrid
        self._captions = captions
        self._as_json = as_json
        self._query = ""
        self._matches: Matches | None = None
        self._commands: dict[str, Callable[[str], None]] = {
            "k": self._set_k, "open": self._open, "like": self._like, "image": self._image,
            "filter": self._set_filter, "hybrid": self._set_hybrid,
            "min-relevance": self._set_min_relevance, "sheet": self._sheet, "help": self._help,
        }  # fmt: skip

    def run(self, source: TextIO) -> int:
        """Answer each line of `source`: a terminal, where it shows a prompt, or a pipe.

        Returns:
            How many lines of a pipe failed; 0 for a terminal, whose user saw it.
        """
        if source.isatty():
            say("Type a query, or :help", err=True)
            with _history(environment.state_folder() / "history"):
                self._answer_all(_typed())
            return 0
        return self._answer_all(text for _, text in read_lines(source.buffer, "standard input"))

    def _answer_all(self, lines: Iterable[str]) -> int:
        failures = 0
        for line in lines:
            if line in (":quit", ":q"):
                break
            try:
                self._answer(line)
            except (VireoError, OSError) as error:
                failures += 1
                say(f"error: {error_text(error)}", err=True)
        return failures

    def _answer(self, line: str) -> None:
        if not line.startswith(":"):
            self._search(line)
            return
        name, _, rest = line[1:].partition(" ")
        command = self._commands.get(name)
        if command is None:
            raise DataError(
                f":{name} is no command; there are :{', :'.join(self._commands)}, :quit"
            )
        command(rest.strip())

    def _search(self, text: str) -> None:
        if self._captions:
            self._show(text, self._client.similar_captions(text, self._k, **self._options))
        else:
            found = self._client.search(text, self._k, hybrid=self._hybrid, **self._options)
            self._show(text, found)

    def _image(self, path: str) -> None:
        file = Path(path).expanduser()
        find = self._client.describe if self._captions else self._client.search_by_image
        self._show(path, find(file, self._k, **self._options))

    def _like(self, number: str) -> None:
        path = self._hit(number).path
        self._show(path, self._client.search_by_image(path, self._k, **self._options))

    def _open(self, number: str) -> None:
        hit = self._hit(number)
        path = hit.path
        if not Path(path).is_file():
            path = _copy_of(hit)
            say(f"it lies in an archive; a copy was written to {path}", err=True)
        if typer.launch(path):
            raise DataError(f"{path}: no viewer of this system opens it")

    def _hit(self, number: str) -> Match:
        """Return the hit of a rank that the last answer shows."""
        if self._matches is None or not len(self._matches):
            raise DataError("there are no hits yet; search for something first")
        count = len(self._matches)
        rank = _number(number, int)
        if rank is None or not 1 <= rank <= count:
            raise DataError(f"no hit {number or 'without a number'}; give one from 1 to {count}")
        return self._matches[rank - 1]

    def _show(self, query: str, matches: Matches) -> None:
        self._query, self._matches = query, matches
        if self._as_json:
            say(answer_line(query, matches))
        else:
            show(matches)

    def _set_k(self, number: str) -> None:
        k = _number(number, int)
        if k is None or k < 1:
            raise DataError(f":k {number}: give the number of hits, a whole number from 1")
        self._k = k

    def _set_filter(self, expression: str) -> None:
        self._options["filter"] = expression or None

    def _set_hybrid(self, word: str) -> None:
        if word not in ("on", "off"):
            raise DataError(f":hybrid {word}: say on or off")
        self._hybrid = word == "on"

    def _set_min_relevance(self, number: str) -> None:
        least = _number(number, float)
        if number and (least is None or not 0 <= least <= 1):
            raise DataError(f":min-relevance {number}: give a number between 0 and 1")
        self._options["min_relevance"] = least

    def _sheet(self, path: str) -> None:
        if self._matches is None:
            raise DataError("there are no hits yet; search for something first")
        file = Path(path).expanduser()
        if not can_draw(file):
            raise DataError(f":sheet {path}: name the sheet .png or .jpg")
        draw_sheet(file, self._query, self._matches)

    def _help(self, _: str) -> None:
        say(*HELP.split("\n"), err=True)


def _copy_of(hit: Match) -> str:
    """Write a hit that lies in an archive to a file, which stays: a viewer may read it later."""
    try:
        data = read_archived(hit.path)
    except ImageError as error:
        raise DataError(f"{hit.path}: {error}; it was there when it was indexed") from None
    suffix = Path(hit.path).suffix
    with NamedTemporaryFile(prefix="vireo-", suffix=suffix, delete=False) as file:
        file.write(data)
    return file.name


def _number(text: str, kind: Callable[[str], T]) -> T | None:
    try:
        return kind(text)
    except ValueError:
        return None


def _typed() -> Iterator[str]:
    """Yield what a person types, line by line, until Ctrl-D; Ctrl-C begins a line anew."""
    while True:
        try:
            line = input(_PROMPT).strip()
        except EOFError:
            say("")
            return
        except KeyboardInterrupt:
            say("")
            continue
        if line:
            yield line


@contextmanager
def _history(file: Path) -> Iterator[None]:
    """Keep the lines that are typed inside the block in `file`, and offer those of before.

    Where there is no readline, as on Windows, there is no history. A file that cannot be read or
    written costs the history, and a line that says so.
    """
    try:
        import readline
    except ImportError:
        yield
        return
    readline.set_history_length(_HISTORY_LINES)
    try:
        readline.read_history_file(file)
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.warning("%s: no history (%s)", file, error.strerror)
    try:
        yield
    finally:
        try:
            # What somebody searches for is theirs alone.
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            readline.write_history_file(file)
        except OSError as error:
            logger.warning("%s: the history was not kept (%s)", file, error.strerror)
