"""`python -m vireo_export.tensorrt`: build the plans that a dry run prepared, and check plans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from vireo_client.errors import EngineError, ExportError
from vireo_client.printing import say
from vireo_serving.plans.manifest import PLAN_FILE, Manifest, adopt_plan, check_plans, new_plan_file
from vireo_serving.plans.present import present_gpu, present_tensorrt
from vireo_serving.plans.recipe import Recipe, graph_sha256

from .builder import build_plan
from .dry_run import RECIPE_FILE, TIMING_CACHE_FILE

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Repository = Annotated[Path, typer.Argument(help="The model repository.")]


@app.command()
def build(repository: Repository) -> None:
    """Build every plan for which a dry run wrote a recipe, with TensorRT's Python package."""
    recipes = sorted(repository.glob(f"*/[0-9]*/{RECIPE_FILE}"))
    if not recipes:
        raise ExportError(
            f"{repository}: no {RECIPE_FILE} in it; `vireo export SOURCE --target tensorrt "
            "--dry-run` writes them"
        )
    for path in recipes:
        recipe, onnx = _read(path)
        manifest = build_plan(
            onnx,
            path.with_name(PLAN_FILE),
            recipe.profiles,
            recipe.options,
            timing_cache=repository / TIMING_CACHE_FILE,
            precision=recipe.precision,
        )
        _print_built(path.with_name(PLAN_FILE), manifest)


@app.command()
def adopt(
    recipe: Annotated[Path, typer.Argument(help=f"The {RECIPE_FILE} that trtexec built from.")],
) -> None:
    """Replace a plan by the one that trtexec has just built here, and write its manifest."""
    parsed, _ = _read(recipe)
    plan = recipe.with_name(PLAN_FILE)
    new = new_plan_file(plan)
    if not new.is_file() or new.stat().st_size == 0:
        raise ExportError(f"{new}: trtexec left no plan; see its output")
    gpu, tensorrt = present_gpu(), present_tensorrt()
    _print_built(plan, adopt_plan(plan, parsed, gpu=gpu, tensorrt=tensorrt))


@app.command()
def check(repository: Repository) -> None:
    """Check whether this machine may load the plans of a model repository."""
    manifests = check_plans(repository)
    if not manifests:
        raise EngineError(f"{repository}: no {PLAN_FILE} in it")
    for manifest in manifests:
        say(f"{manifest.plan_sha256[:12]}  {manifest.gpu}, TensorRT {manifest.tensorrt}: ok")


def _read(path: Path) -> tuple[Recipe, Path]:
    """Read a recipe and find its graph; check that the recipe was written for this graph."""
    try:
        recipe = Recipe.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ExportError(f"{path}: no such recipe; a dry run writes it") from None
    except ValidationError as error:
        reason = str(error).replace("\n", " ")
        raise ExportError(f"{path}: not a recipe ({reason}); do the dry run again") from error
    onnx = path.parent / recipe.onnx
    if not onnx.is_file() or graph_sha256(onnx) != recipe.onnx_sha256:
        raise ExportError(
            f"{onnx}: missing, or not the graph that {path} was written for; copy the repository "
            "again, or do the dry run again"
        )
    return recipe, onnx


def _print_built(plan: Path, manifest: Manifest) -> None:
    say(f"{plan}: {manifest.precision}, for {manifest.gpu}, TensorRT {manifest.tensorrt}")
