"""`vireo index info`, `verify`, `compact`, `remove` and `snapshot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import DEFAULT_INDEX, IndexedModelOption, IndexOption


def remove(
    paths: Annotated[list[Path], typer.Argument(help="Paths of images, as a search shows them.")],
    index: IndexOption = DEFAULT_INDEX,
    model: IndexedModelOption = None,
) -> None:
    """Remove images and their captions from an index; their files stay.

    The next `vireo index` of their folder adds them again, if their files are still there.

    Example: `vireo index remove ~/Pictures/blurred.jpg --index my-photos`
    """
    from ...bundle import Bundle
    from ...editing import remove_images
    from ...index.bundle_files import open_bundle

    bundle = Bundle(model) if model is not None else open_bundle(index, engines=False)
    count = remove_images(index, bundle, paths)
    typer.echo(f"{count} images removed from {index}")
