"""`vireo encoders` and `vireo import`. Heavy imports stay inside, so that --help is quick."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from vireo_client.extras import require
from vireo_client.printing import say


def encoders(
    bundle: Annotated[Path, typer.Argument(help="A bundle that `vireo train` wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write: image.safetensors and text/.")],
) -> None:  # fmt: skip
    """Save a bundle's image encoder and text encoder alone, without heads, to train others from.

    Example: `vireo encoders runs/mine/bundle --out runs/mine/encoders`
    """
    require("train", "torch", "timm")
    from vireo_client.bundle import Bundle

    from ..models.encoder_files import save_encoders

    settings = save_encoders(Bundle(bundle), out)
    say(f"encoders: {out}")
    say("load: " + " ".join(f"--set {shlex.quote(each)}" for each in settings))


def import_(
    checkpoint: Annotated[Path, typer.Argument(help="best.pt of PhoCLIP or of End-to-End Image Retrieval with Vietnamese.")],
    preset: Annotated[str, typer.Option(help="The preset of its two encoders, like phobert-dinov2-base.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The bundle's folder.")],
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, like text.name=FOLDER; repeatable.")] = [],  # noqa: B006
) -> None:  # fmt: skip
    """Make a bundle of weights that another project published.

    Example: `vireo import uit-vilc-dinov2.pt --preset phobert-dinov2-base --out dinov2-bundle`
    """
    require("train", "torch", "timm")
    from ..models.encoder_files import import_checkpoint
    from ..presets import load_config

    bundle = import_checkpoint(checkpoint, load_config(preset, settings), out)
    say(f"bundle: {bundle}")
