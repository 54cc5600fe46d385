"""`vireo export` and `vireo demo`. Heavy imports stay inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, get_args

import typer
from vireo_client.extras import require


def export(
    source: Annotated[str, typer.Argument(help="The bundle that `vireo train` wrote; hf:OWNER/NAME or a folder, a CLIP, ALIGN, SigLIP, SigLIP 2, Chinese-CLIP, AltCLIP or MetaCLIP 2 of transformers; open_clip:MODEL@WEIGHTS, hf-hub:OWNER/NAME or a folder of open_clip.")],
    data: Annotated[str | None, typer.Option(metavar="DATA[@PICTURES]", help="Captioned pictures on which engines and PyTorch are compared. Without any they are compared on drawn scenes, which tell nothing of recall.")] = None,
    repository: Annotated[Path | None, typer.Option("--repository", "-o", help="Model repository to write; by default model_repository beside a bundle, and ./NAME_repository for other sources.")] = None,
    split: Annotated[str | None, typer.Option(help="Pictures of --data to compare on: test, validation, train or all. By default validation, or all where the source records no split.")] = None,
    max_batch_size: Annotated[int, typer.Option(min=1, help="Largest batch Triton forms.")] = 64,
    queue_delay_us: Annotated[int, typer.Option(min=0, help="Microseconds a request may wait for a batch to fill; at 0 batches form only while the engine is busy.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="Threads of one inference on a CPU; 0 shares the server's cores out among the instances.")] = 0,
    instances: Annotated[int, typer.Option(min=1, help="Copies of each tower, per device.")] = 1,
    device: Annotated[str, typer.Option(help="Where the towers run: cpu or gpu. Target cpu knows only cpu, tensorrt only gpu.")] = "cpu",
    gpu: Annotated[list[int] | None, typer.Option(min=0, help="A GPU that gets instances, repeatable; by default all.")] = None,
    cuda_graphs: Annotated[bool, typer.Option(help="Target tensorrt: replay captured CUDA graphs.")] = True,
    ort_tensorrt_cache: Annotated[str | None, typer.Option(metavar="FOLDER", help="Target onnxruntime on gpu: run the towers by TensorRT and keep its plans there (an absolute path on the server).")] = None,
    queue_limits: Annotated[bool, typer.Option("--queue-limits", help="Refuse what finds a full queue or has waited too long, and let queries overtake indexing. Triton then starts batches later, by up to half a second where requests are few: docs/production.md.")] = False,
    queue_size: Annotated[int, typer.Option(min=0, help="With --queue-limits: requests that may wait for a model; 0 for no limit.")] = 1024,
    queue_timeout_ms: Annotated[int, typer.Option(min=0, help="With --queue-limits: how long a query may wait; a request may ask for less. 0 for no limit.")] = 10_000,
    bulk_queue_timeout_ms: Annotated[int, typer.Option(min=0, help="With --queue-limits: the same for indexing, which queries overtake.")] = 60_000,
    response_cache: Annotated[bool, typer.Option(help="Answer texts asked for again from the server's cache.")] = True,
    target: Annotated[str, typer.Option(help="What runs the towers in Triton: cpu (on any machine), onnxruntime or tensorrt (in NVIDIA's image).")] = "cpu",
    keep: Annotated[int, typer.Option(min=1, help="Versions kept in the repository, the new one included; `vireo rollback` goes back to one.")] = 2,
    precision: Annotated[str | None, typer.Option(help="fp32, fp16 or int8, or one for each tower: text=int8,image=fp32. By default fp32; for tensorrt fp16.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Target tensorrt: write graphs, configurations and the trtexec lines, and build nothing; needs no GPU.")] = False,
    workspace_mb: Annotated[int | None, typer.Option(min=1, help="Target tensorrt: most MiB of GPU memory that one layer may use as scratch space.")] = None,
    builder_level: Annotated[int, typer.Option(min=0, max=5, help="Target tensorrt: how long to search for kernels.")] = 3,
    hardware_compatibility: Annotated[str, typer.Option(help="Target tensorrt: none, same_compute_capability or ampere_plus: which other GPUs run the plans.")] = "none",
    version_compatible: Annotated[bool, typer.Option("--version-compatible", help="Target tensorrt: later TensorRT versions load the plans.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the parity report as JSON.")] = False,
) -> None:  # fmt: skip
    """Turns a model into ONNX engines in a Triton model repository.

    Every engine is compared with the PyTorch module first; if one differs, nothing is written and
    an older repository stays as it is.

    Example: `vireo export runs/mine/bundle --data my-photos`

    Example: `vireo export hf:google/siglip2-base-patch16-256`
    """
    require("export", "torch", "onnx", "onnxscript", "onnxruntime")
    from vireo_client.repository import read_versions
    from vireo_serving.configs.triton_config import DEVICES, TARGETS, QueueLimits, ServingOptions
    from vireo_serving.plans.options import BuildOptions, HardwareCompatibility
    from vireo_training.evaluation.evaluate import SPLITS

    from .export import EngineOptions
    from .export import export as run
    from .parity.pictures import comparison_set
    from .parity.report import TABLE_FILE
    from .precision import Precisions
    from .sources import open_source, repository_for

    if split is not None and split not in SPLITS:
        raise typer.BadParameter(f"--split is one of {', '.join(SPLITS)}")
    if target not in TARGETS:
        raise typer.BadParameter(f"--target is one of {', '.join(TARGETS)}")
    if device not in DEVICES:
        raise typer.BadParameter(f"--device is one of {', '.join(DEVICES)}")
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
        device=device,
        gpus=tuple(gpu or ()),
        cuda_graphs=cuda_graphs,
        ort_tensorrt_cache=ort_tensorrt_cache,
        queue_limits=limits if queue_limits else None,
        response_cache=response_cache,
    )
    if hardware_compatibility not in get_args(HardwareCompatibility):
        raise typer.BadParameter(
            f"--hardware-compatibility is one of {', '.join(get_args(HardwareCompatibility))}"
        )
    how = EngineOptions(
        Precisions.parse(precision or ("fp16" if target == "tensorrt" else "fp32")),
        target=target,
        build=BuildOptions(
            workspace_bytes=workspace_mb and workspace_mb << 20,
            optimization_level=builder_level,
            hardware_compatibility=hardware_compatibility,
            version_compatible=version_compatible,
        ),
        dry_run=dry_run,
    )
    opened = open_source(source)
    folder = repository or repository_for(source)
    with comparison_set(opened.bundle, data, split, how.precisions) as pictures:
        parity = run(
            opened, folder, pictures.compared, options, how, pictures.calibration, keep=keep
        )
    if as_json:
        typer.echo(json.dumps(parity.as_dict()))
        return
    for tower in ("text", "image"):
        figures = getattr(parity, tower)
        typer.echo(
            f"{tower:5} tower in {getattr(parity.precisions, tower)}: cosine to PyTorch >= {figures.min_cosine:.7f} over "
            f"{figures.compared} inputs, largest difference {figures.max_abs_difference:.1e}"
        )
    versions = read_versions(folder)
    older = [version for version in versions.kept if version != versions.current]
    typer.echo(
        f"model repository: {folder}, version {versions.current}"
        + (f" (kept: {', '.join(map(str, older))})" if older else "")
        + f"; figures: {folder / TABLE_FILE}"
    )
    if dry_run:
        typer.echo(f"next: copy {folder} to the machine with the GPU and run ./build.sh there")
        return
    typer.echo(f"next: vireo serve {folder}   or   vireo index PHOTOS --model {folder}")


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where everything is written.")] = Path("runs/demo"),
    train_pictures: Annotated[int, typer.Option(min=64, help="Generated scenes to train on.")] = 9000,
    test_pictures: Annotated[int, typer.Option(min=16, help="Generated scenes to search in.")] = 500,
    epochs: Annotated[int | None, typer.Option(min=1, help="By default the preset's.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed gives other scenes.")] = 0,
) -> None:  # fmt: skip
    """Runs the whole road on generated scenes: train, export, Triton, index, search.

    Example: `vireo demo --out runs/demo`
    """
    require("export", "torch", "onnx", "onnxscript", "onnxruntime")
    from .demo import run_demo

    run_demo(
        out, train_pictures=train_pictures, test_pictures=test_pictures, epochs=epochs, seed=seed
    )
