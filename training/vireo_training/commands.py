"""`vireo train` and `vireo evaluate`. Heavy imports stay inside: --help answers at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from vireo_client.extras import require


def train(
    data: Annotated[str, typer.Argument(metavar="DATA[@PICTURES]", help="A folder with captions.jsonl and its pictures, or a captions file of another format (docs/data.md).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder; the bundle goes to OUT/bundle.")],
    preset: Annotated[str, typer.Option(help="`scenes`, `photos`, or a JSON file of your own.")] = "photos",
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; repeatable.")] = [],  # noqa: B006
) -> None:  # fmt: skip
    """Trains a dual encoder on captioned pictures and writes a bundle.

    Pictures are divided into training, validation and test; the epoch that does best on validation
    is kept. Ctrl-C stops early and keeps the best so far.

    Example: `vireo train my-photos --out runs/mine --set image.weights=mobilenet.safetensors
    --set epochs=30`
    """
    require("train", "torch", "timm")
    from .config import load_config
    from .train import train as run

    result = run(load_config(preset, settings), data, out)
    typer.echo(f"bundle: {result.bundle}")
    typer.echo(f"next: vireo export {result.bundle} --data {data}")
    if result.interrupted:
        raise KeyboardInterrupt


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="A bundle, or a model repository made from one.")],
    data: Annotated[str, typer.Option(metavar="DATA[@PICTURES]", help="Captioned pictures, as for `vireo train`.")],
    split: Annotated[str, typer.Option(help="test, validation, train or all.")] = "test",
    engine: Annotated[str | None, typer.Option(help="torch or onnx; by default whichever the folder holds.")] = None,
    triton: Annotated[str | None, typer.Option(envvar="VIREO_TRITON", metavar="HOST:PORT", help="Embed through this Triton instead.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:  # fmt: skip
    """Measures retrieval both ways, beside chance: recall@1/5/10, MRR, median rank.

    Example: `vireo evaluate runs/mine/bundle --data my-photos --split test`
    """
    require("train", "torch", "timm")
    from vireo_client.bundle import WEIGHTS_FILE, Bundle
    from vireo_client.embedder import Embedder
    from vireo_client.search import open_embedder

    from .evaluate import SPLITS, select_records
    from .evaluate import evaluate as run
    from .torch_towers import TorchTowers

    if split not in SPLITS:
        raise typer.BadParameter(f"--split is one of {', '.join(SPLITS)}")
    if engine not in (None, "torch", "onnx"):
        raise typer.BadParameter("--engine is torch or onnx")
    if engine is not None and triton is not None:
        raise typer.BadParameter("--engine and --triton exclude each other")
    model = Bundle(bundle)
    records = select_records(model, data, split)
    if engine is None:
        engine = "torch" if (bundle / WEIGHTS_FILE).is_file() else "onnx"
    if engine == "torch" and triton is None:
        embedder = Embedder(model, TorchTowers(model))
    else:
        embedder = open_embedder(model, triton)
    with embedder:
        report = run(embedder, records)
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
    else:
        typer.echo(metrics_table(report))


def metrics_table(report: dict[str, Any]) -> str:
    """Formats both directions beside chance for a terminal."""
    columns = ("recall_at_1", "recall_at_5", "recall_at_10", "mean_reciprocal_rank", "median_rank")
    head = f"{'':28}" + "".join(f"{h:>9}" for h in ("R@1", "R@5", "R@10", "MRR", "median"))
    lines = [head]
    for way in ("text_to_image", "image_to_text"):
        for prefix, label in (("", way.replace("_", " ")), ("chance_", "  chance")):
            figures = report[prefix + way]
            cells = "".join(f"{figures[c]:>9.3f}" for c in columns[:-1])
            name = label if prefix else f"{label} ({figures['queries']} of {figures['candidates']})"
            lines.append(f"{name:28}{cells}{figures['median_rank']:>9.1f}")
    return "\n".join(lines)
