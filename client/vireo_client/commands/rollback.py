"""`vireo rollback`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def rollback(
    repository: Annotated[Path, typer.Argument(help="The model repository that `vireo export` wrote.")],
    to: Annotated[int | None, typer.Option(min=1, help="A kept version; by default the newest of those older than the one in use.")] = None,
) -> None:  # fmt: skip
    """Puts an older version of a model repository back into use.

    Nothing is removed: `--to` goes forward again. A running `vireo serve` takes it up by itself.

    Example: `vireo rollback runs/mine/model_repository`
    """
    from ..repository import read_versions
    from ..rollback import rollback as run

    before = read_versions(repository).current
    version = run(repository, to)
    kept = ", ".join(map(str, read_versions(repository).kept))
    typer.echo(f"{repository}: version {version} is in use, {before} was (kept: {kept})")
