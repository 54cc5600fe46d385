"""The last step of target `tensorrt`: build plans from graphs, here or on another machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vireo_client.bundle import Bundle
from vireo_client.captions import CaptionedImage
from vireo_client.embedder import Embedder
from vireo_client.progress import note
from vireo_client.repository import IMAGE_MODEL, MODELS, TEXT_MODEL, current_version
from vireo_serving.plans.manifest import PLAN_FILE
from vireo_serving.plans.options import BuildOptions
from vireo_serving.plans.profiles import bundle_profiles
from vireo_training.evaluation.evaluate import CorpusEmbeddings

from ..parity.gate import check
from ..parity.measure import measure_parity
from ..precision import Precisions
from .builder import build_plan
from .dry_run import BUILD_SCRIPT, TIMING_CACHE_FILE, dry_run
from .trtexec import trtexec_line


def build_plans(
    graphs: Mapping[str, Path],
    bundle: Bundle,
    precisions: Precisions,
    options: BuildOptions,
    *,
    max_batch_size: int,
    timing_cache: Path,
) -> dict[str, Path]:
    """Build both towers' plans beside their graphs, for this machine's GPU.

    Also prints the equivalent `trtexec` lines. Their paths are relative, with one folder for each
    model, because the graphs' present folder is removed when the export ends.

    Args:
        graphs: ONNX files of standard operators, by model name.
        bundle: the bundle, whose buckets the profiles have.
        precisions: the precision of each graph.
        options: build options that the operator chose.
        max_batch_size: largest batch of every profile.
        timing_cache: a file that later exports use as well.

    Returns:
        The plans by model name.

    Raises:
        ExportError: TensorRT cannot build a plan.
    """
    profiles = bundle_profiles(bundle.config, max_batch_size)
    plans = {}
    for model, graph in graphs.items():
        plans[model] = graph.with_name(PLAN_FILE)
        folder = Path(model)
        line = trtexec_line(
            folder / graph.name,
            folder / PLAN_FILE,
            profiles[model],
            options,
            timing_cache=Path(TIMING_CACHE_FILE),
        )
        note(line)
        build_plan(
            graph,
            plans[model],
            profiles[model],
            options,
            timing_cache=timing_cache,
            precision=precisions.text if model == TEXT_MODEL else precisions.image,
        )
    return plans


def check_plan_parity(
    plans: Mapping[str, Path],
    bundle: Bundle,
    expected: CorpusEmbeddings,
    records: Sequence[CaptionedImage],
    precisions: Precisions,
) -> None:
    """Check plans by the same parity gate as every engine.

    Raises:
        ParityError: a plan's vectors differ too much from PyTorch's.
        EngineError: a plan does not load or run.
    """
    from .plan_towers import PlanTowers  # imports TensorRT

    towers = PlanTowers(plans[TEXT_MODEL], plans[IMAGE_MODEL])
    with Embedder(bundle, towers) as embedder:
        check(measure_parity(expected, embedder, records, precisions), bundle.config.export)


def prepare_plans(
    repository: Path,
    bundle: Bundle,
    precisions: Precisions,
    options: BuildOptions,
    *,
    max_batch_size: int,
) -> None:
    """Write the recipes and the script for a machine with a GPU, and print the `trtexec` lines.

    Args:
        repository: the model repository, with the graphs in its version folders.
        bundle: the bundle, whose buckets the profiles have.
        precisions: the precision of each graph.
        options: build options that the operator chose.
        max_batch_size: largest batch of every profile.
    """
    version = current_version(repository)
    lines = dry_run(
        repository,
        {model: repository / model / str(version) / "model.onnx" for model in MODELS},
        bundle_profiles(bundle.config, max_batch_size),
        options,
        version=version,
        precisions={TEXT_MODEL: precisions.text, IMAGE_MODEL: precisions.image},
    )
    note(*lines)
    note(f"nothing was built; run {BUILD_SCRIPT} on the machine that will serve it")


def timing_cache_of(repository: Path) -> Path:
    """Return the timing cache of a repository's builds: beside it, so that an export keeps it."""
    return repository.with_name(f"{repository.name}.{TIMING_CACHE_FILE}")
