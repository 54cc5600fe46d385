"""`vireo index`: makes an index and looks after it."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from .add import add
from .care import compact, info, remove, snapshot, verify
from .files import export_files, import_files


class _AddByDefault(TyperGroup):
    """Takes a first word that is no verb, or an option, for what follows `add`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["add", *args]
        return super().parse_args(ctx, args)


index = typer.Typer(cls=_AddByDefault, no_args_is_help=True, rich_markup_mode="markdown")


@index.callback()
def _index() -> None:
    """Make an index of images, bring it up to date, and look after it.

    `vireo index FOLDER --model MODEL` is short for `vireo index add FOLDER --model MODEL`: it
    embeds what is new or changed, and drops what is gone. Repeat it whenever the folder has
    changed. A folder that has the name of a verb is given as `./info`.

    Examples:

    - `vireo index ~/Pictures --model runs/demo/model_repository --index my-photos`

    - `vireo index info --index my-photos`

    - `vireo index verify --index my-photos --repair`
    """


index.command("add")(add)
index.command("info")(info)
index.command("verify")(verify)
index.command("compact")(compact)
index.command("remove")(remove)
index.command("snapshot")(snapshot)
index.command("import")(import_files)
index.command("export")(export_files)
