"""`vireo export` and `vireo demo`. Heavy imports stay inside."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from vireo_client.extras import require
from vireo_client.printing import json_line, say
from vireo_training.commands.options import ColumnsOption

from .target_options import TargetCommand

if TYPE_CHECKING:
    from vireo_serving.targets import Target


export = typer.Typer(rich_markup_mode="markdown")
"""An app of one command: with a function alone, its class could not be named."""


@export.command(cls=TargetCommand)
def publish(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="The bundle that `vireo train` wrote; hf:OWNER/NAME or a folder, a CLIP, ALIGN, SigLIP, SigLIP 2, Chinese-CLIP, AltCLIP or MetaCLIP 2 of transformers; open_clip:MODEL@WEIGHTS, hf-hub:OWNER/NAME or a folder of open_clip.")],
    target: Annotated[str, typer.Option(help="What runs the towers in Triton. Each target has options of its own, which --help lists with it.")] = "cpu",
    data: Annotated[str | None, typer.Option(metavar="DATA[@IMAGES]", help="Captioned images on which engines are compared with PyTorch. Without any they are compared on drawn scenes, which say nothing about recall.")] = None,
    repository: Annotated[Path | None, typer.Option("--repository", "-o", help="Model repository to write; by default model_repository beside a bundle, and ./NAME_repository for other sources.")] = None,
    split: Annotated[str | None, typer.Option(help="Images of --data to compare on: test, validation, train or all. By default validation, or all where neither the source nor DATA names splits.")] = None,
    columns: ColumnsOption = None,
    precision: Annotated[str | None, typer.Option(help="Precision of both towers' engines, or one for each: text=int8,image=fp32; int4 is for text towers. By default the target's.")] = None,
    keep: Annotated[int, typer.Option(min=1, help="Versions kept in the repository, the new one included; `vireo rollback` goes back to one.")] = 2,
    max_batch_size: Annotated[int, typer.Option(min=1, help="Largest batch Triton forms.")] = 64,
    queue_delay_us: Annotated[int, typer.Option(min=0, help="Microseconds a request may wait for a batch to fill; at 0 batches form only while the engine is busy.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="Threads of one inference on a CPU, and of decoding images; 0 shares the server's cores out among the instances.")] = 0,
    instances: Annotated[int, typer.Option(min=1, help="Copies of each tower, per device.")] = 1,
    queue_limits: Annotated[bool, typer.Option("--queue-limits", help="Refuse requests that find a full queue or have waited too long, and let queries overtake indexing. Triton then starts batches later, by up to half a second where requests are few: docs/production.md.")] = False,
    queue_size: Annotated[int, typer.Option(min=0, help="With --queue-limits: requests that may wait for a model; 0 for no limit.")] = 1024,
    queue_timeout_ms: Annotated[int, typer.Option(min=0, help="With --queue-limits: how long a query may wait; a request may ask for less. 0 for no limit.")] = 10_000,
    bulk_queue_timeout_ms: Annotated[int, typer.Option(min=0, help="With --queue-limits: the same for indexing, which queries overtake.")] = 60_000,
    response_cache: Annotated[bool, typer.Option(help="Answer repeated texts from the server's cache.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the parity report as JSON.")] = False,
) -> None:  # fmt: skip
    """Turn a model into ONNX engines in a Triton model repository.

    Every engine is compared with the PyTorch module first; if one differs, nothing is published and
    an older repository stays as it is.

    Example: `vireo export runs/mine/bundle --data my-photos`

    Example: `vireo export hf:google/siglip2-base-patch16-256`
    """
    require("export", "torch", "onnx", "onnxscript", "onnxruntime")
    from vireo_client.repository import read_versions
    from vireo_serving.configs.triton_config import QueueLimits, ServingOptions
    from vireo_training.evaluation.evaluate import SPLITS
    from vireo_training.readers import column_names
    from vireo_training.sources import open_source

    from .export import EngineOptions, repository_for
    from .export import export as run
    from .parity.pictures import parity_images
    from .parity.report import TABLE_FILE
    from .precision import Precisions

    if split is not None and split not in SPLITS:
        raise typer.BadParameter(f"--split is one of {', '.join(SPLITS)}")
    limits = QueueLimits(queue_size, queue_timeout_ms, bulk_queue_timeout_ms)
    if limits != QueueLimits() and not queue_limits:
        raise typer.BadParameter(
            "--queue-size, --queue-timeout-ms and --bulk-queue-timeout-ms go with --queue-limits"
        )
    options = ServingOptions(
        max_batch_size=max_batch_size,
        max_queue_delay_us=queue_delay_us,
        threads=threads,
        instances=instances,
        queue_limits=limits if queue_limits else None,
        response_cache=response_cache,
    )
    chosen: Target = ctx.obj
    engine_options = EngineOptions(Precisions.parse(precision or chosen.precisions[0]), chosen)
    engine_options.precisions.check(chosen)
    opened = open_source(source)
    folder = repository or repository_for(source)
    with parity_images(
        opened.bundle, data, split, engine_options.precisions, columns=column_names(columns)
    ) as images:
        parity = run(
            opened, folder, images.records, options, engine_options, images.calibration, keep=keep
        )
    if as_json:
        say(json_line(parity.as_dict()))
        return
    for tower in ("text", "image"):
        figures = getattr(parity, tower)
        say(
            f"{tower:5} tower in {getattr(parity.precisions, tower)}: cosine to PyTorch >= {figures.min_cosine:.7f} over "
            f"{figures.compared} inputs, largest difference {figures.max_abs_difference:.1e}"
        )
    versions = read_versions(folder)
    older = [version for version in versions.kept if version != versions.current]
    say(
        f"model repository: {folder}, version {versions.current}"
        + (f" (kept: {', '.join(map(str, older))})" if older else "")
        + f"; figures: {folder / TABLE_FILE}"
    )
    build = chosen.plan_build()
    if build and not build.here:
        say(
            f"next: copy {shlex.quote(str(folder))} to the machine with the GPU and run ./build.sh there"
        )
        return
    quoted = shlex.quote(str(folder))
    say(f"next: vireo serve {quoted}   or   vireo index PHOTOS --model {quoted}")


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where everything is written.")] = Path("runs/demo"),
    train_pictures: Annotated[int, typer.Option(min=64, help="Generated scenes to train on.")] = 9000,
    test_pictures: Annotated[int, typer.Option(min=16, help="Generated scenes to search in.")] = 500,
    epochs: Annotated[int | None, typer.Option(min=1, help="By default the preset's.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed gives other scenes.")] = 0,
) -> None:  # fmt: skip
    """Run everything on generated scenes: train, export, Triton, index, search.

    Example: `vireo demo --out runs/demo`
    """
    require("export", "torch", "onnx", "onnxscript", "onnxruntime")
    from .demo import run_demo

    run_demo(
        out, train_pictures=train_pictures, test_pictures=test_pictures, epochs=epochs, seed=seed
    )
