"""`vireo train`. Heavy imports stay inside, so that --help is quick."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from vireo_client.extras import require
from vireo_client.printing import say

from .options import ColumnsOption, FormatOption


def train(
    data: Annotated[list[str] | None, typer.Argument(metavar="DATA[@IMAGES][=WEIGHT]...", help="A folder with captions.jsonl and its images, or a captions file of another format (docs/data.md); several are mixed.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder; the bundle goes to OUT/bundle.")] = None,
    preset: Annotated[str | None, typer.Option(help="One of --presets, or a JSON file of your own. [default: vireo-small, or with --from settings for fine-tuning]", show_default=False)] = None,
    source: Annotated[str | None, typer.Option("--from", metavar="MODEL", help="Fine-tune a CLIP, SigLIP, ALIGN, ... of transformers: hf:OWNER/NAME or hf:FOLDER. --set image.freeze=true or text.freeze=true keeps a tower as it is.")] = None,
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; repeatable.")] = [],  # noqa: B006
    validation: Annotated[str | None, typer.Option(metavar="DATA[@IMAGES]", help="Validate on this, instead of a part of DATA.")] = None,
    columns: ColumnsOption = None,
    file_format: FormatOption = None,
    captions: Annotated[list[Path], typer.Option(metavar="FILE", help="JSON lines of captions without images, for tokenizer and text tower; repeatable.")] = [],  # noqa: B006
    features: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder that keeps the features of a frozen image tower, for other runs on the same images. Default: OUT.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in OUT.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew although OUT holds an unfinished run.")] = False,
    presets: Annotated[bool, typer.Option("--presets", help="List the presets and stop.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print all settings as JSON and stop: a start for a preset file of your own.")] = False,
) -> None:  # fmt: skip
    """Train a dual encoder on captioned images and write a bundle.

    Images are divided into training, validation and test; the bundle holds the epoch that does best
    on validation. Ctrl-C saves the run, to go on with --resume, and writes the best epoch so far.

    Example: `vireo train my-photos --out runs/mine --set image.weights=mobilenet.safetensors
    --set epochs=30`

    Example: `vireo train my-photos --out runs/tuned --from hf:google/siglip2-base-patch16-256`

    On several GPUs: `torchrun --standalone --nproc-per-node 4 --no-python vireo train ...`
    """
    require("train", "torch", "timm", "accelerate")
    from ..presets import load_config, preset_about, preset_names

    if presets:
        for name in preset_names():
            say(f"{name:22} {preset_about(name)}")
        return
    preset = preset or ("vireo-small" if source is None else None)
    config = load_config(preset, settings, source=source)
    if show:
        say(*config.model_dump_json(indent=2).split("\n"))
        return
    if not data:
        raise typer.BadParameter("name the captions to train on", param_hint="DATA")
    if out is None:
        raise typer.BadParameter("name the run folder", param_hint="--out")
    if resume and restart:
        raise typer.BadParameter("--resume goes on, --restart begins anew: give one of them")
    from ..loop.train import train as run
    from ..readers import column_names

    result = run(
        config,
        data,
        out,
        validation=validation,
        captions=captions,
        features=features,
        columns=column_names(columns),
        file_format=file_format,
        resume=resume,
        restart=restart,
    )
    if result.is_main_process:
        say(f"bundle: {result.bundle}")
        say(
            f"next: vireo export {shlex.quote(str(result.bundle))}"
            # Of a file whose format must be named, an export knows nothing.
            + (f" --data {shlex.quote(validation or data[0])}" if file_format is None else "")
            + (f" --columns {shlex.quote(columns)}" if columns and file_format is None else "")
        )
    if result.interrupted:
        raise KeyboardInterrupt
