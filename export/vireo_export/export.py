"""Source to model repository, published only after the parity gate."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from vireo_client.bundle import BUNDLE_FILE
from vireo_client.captions import CaptionedImage
from vireo_client.errors import ExportError
from vireo_client.index.neutral import write_beside_engines
from vireo_client.progress import console
from vireo_client.text.pipeline import TextPath
from vireo_serving.configs.triton_config import ServingOptions
from vireo_serving.plans.options import BuildOptions
from vireo_serving.repository.publish import publishing, write_repository
from vireo_serving.targets import Cpu, Target
from vireo_training.sources import Source

from .onnx.export import export_towers
from .onnx.external_data import EXTERNAL_DATA_LIMIT
from .onnx.operators import check_operators
from .onnx.optimise import optimise
from .parity.gate import Parity, check
from .parity.measure import MODEL_OF, ParityMeasurement, Tower
from .parity.report import write_report
from .precision import ALL_FP32, Precisions
from .precision.build import Engine, build_engine
from .precision.calibration import Calibration
from .tensorrt import plans
from .tensorrt.builder import require_tensorrt

_CPU = Cpu()


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Settings of how engines are made."""

    precisions: Precisions = ALL_FP32
    target: Target = _CPU
    """What runs the towers, with its own options."""
    external_data_limit: int = EXTERNAL_DATA_LIMIT
    """See `save_engine`."""


def repository_for(source: str | Path) -> Path:
    """Return the default folder of a source's model repository.

    It is `model_repository` beside a bundle, and `NAME_repository` in the current folder for other
    sources.
    """
    folder = Path(source)
    if (folder / BUNDLE_FILE).is_file():
        return folder.resolve().parent / "model_repository"
    last = re.split(r"[/:]", str(source).rstrip("/"))[-1]
    return Path(f"{re.sub(r'[^A-Za-z0-9._-]+', '-', last)}_repository")


def export(
    source: Source,
    repository: Path,
    records: Sequence[CaptionedImage],
    options: ServingOptions | None = None,
    engine_options: EngineOptions | None = None,
    calibration_records: Sequence[CaptionedImage] | None = None,
    *,
    keep: int = 2,
) -> Parity:
    """Make both towers' engines and publish a model repository.

    The repository replaces an older one in one step, and only if the engines pass the gate.

    Args:
        source: the model, see `open_source`.
        repository: the folder to publish to.
        records: captioned images on which engines are compared with PyTorch.
        options: the options that every target has.
        engine_options: precisions and target.
        calibration_records: captioned images on which FP16 and INT8 measure activations; by
            default `records`.
        keep: the most versions to have afterwards, the new one included.

    Returns:
        The figures of the gate, which also lie in `parity.json`, `parity.md` and `parity.png`.

    Raises:
        ExportError: the target does not run engines of a precision; a tower cannot be expressed in
            ONNX, has an operator that the target lacks, or cannot be calibrated; or there is no
            room for the repository.
        ParityError: an engine does not answer as PyTorch does.
        VireoError: `repository` is a file, or a folder of another kind.
    """
    options, how = options or ServingOptions(), engine_options or EngineOptions()
    how.precisions.check(how.target)
    build = how.target.plan_build()
    if build and build.here:
        require_tensorrt()  # before minutes are spent
    try:
        with publishing(repository, keep=keep) as draft:
            # Inside the draft, on its file system: engines are then moved, not copied.
            with (
                tempfile.TemporaryDirectory(dir=draft, prefix=".engines-") as work,
                ExitStack() as opened,
            ):
                fp32 = _fp32_engines(source, Path(work), how)
                measurement = opened.enter_context(
                    closing(ParityMeasurement(source, records, fp32, threads=options.threads))
                )
                calibration = _calibration(source, calibration_records or records, how)
                engines = {
                    tower: _engine(tower, fp32, Path(work), measurement, calibration, source, how)
                    for tower in MODEL_OF
                }
                write_beside_engines(draft, source.bundle, measurement.embedding(engines["text"]))
                with console.status("comparing engines with PyTorch"):
                    parity = measurement.parity(engines)
                settings = source.bundle.config.export
                check(parity, settings)
                paths = {MODEL_OF[tower]: engine.path for tower, engine in engines.items()}
                if build and build.here:
                    paths = _plans(
                        paths, repository, source, measurement, options, how, build.options
                    )
                write_repository(
                    draft, source.bundle, paths, options, target=how.target, records=records
                )
            if build and not build.here:
                plans.prepare_plans(
                    draft, source.bundle, how.precisions, build.options,
                    max_batch_size=options.max_batch_size,
                )  # fmt: skip
            write_report(parity, draft, settings)
    except OSError as error:
        raise ExportError(
            f"{repository}: cannot be written ({error.strerror or error}); make room there and "
            "in the temporary folder, and export again; an older repository is unchanged"
        ) from error
    return parity


def _plans(
    graphs: dict[str, Path],
    repository: Path,
    source: Source,
    measurement: ParityMeasurement,
    options: ServingOptions,
    how: EngineOptions,
    build: BuildOptions,
) -> dict[str, Path]:
    built = plans.build_plans(
        graphs, source.bundle, how.precisions, build,
        max_batch_size=options.max_batch_size, timing_cache=plans.timing_cache_of(repository),
    )  # fmt: skip
    with console.status("comparing plans with PyTorch"):
        corpus = measurement.corpus
        plans.check_plan_parity(built, source.bundle, corpus, corpus.records, how.precisions)
    return built


def _fp32_engines(source: Source, work: Path, how: EngineOptions) -> dict[str, Path]:
    config = source.bundle.config
    with console.status("exporting towers to ONNX"):
        exported = export_towers(
            source.text_tower,
            source.image_tower,
            work / "exported",
            size=config.image.size,
            buckets=config.text.buckets,
            pad_id=config.text.pad_id,
            limit=how.external_data_limit,
        )
    engines = {}
    with console.status("optimising graphs"):
        for model, path in exported.items():
            check_operators(path, model, how.target)
            engines[model] = work / "fp32" / model / path.name
            optimise(path, engines[model], how.target, limit=how.external_data_limit)
    return engines


def _calibration(
    source: Source, records: Sequence[CaptionedImage], how: EngineOptions
) -> Calibration | None:
    if how.precisions == ALL_FP32:
        return None
    with console.status("reading the calibration set"):
        text_path = TextPath.from_bundle(source.bundle)
        return Calibration.read(records, source.bundle.config, text_path)


def _engine(
    tower: Tower,
    fp32: dict[str, Path],
    work: Path,
    measurement: ParityMeasurement,
    calibration: Calibration | None,
    source: Source,
    how: EngineOptions,
) -> Engine:
    model, precision = MODEL_OF[tower], getattr(how.precisions, tower)
    with console.status(f"making the {tower} tower's engine in {precision}"):
        engine = build_engine(
            precision,
            model,
            fp32[model],
            work / model,
            calibration,
            lambda path: measurement.quality(tower, path, precision),
            limit=how.external_data_limit,
        )
        check_operators(engine.path, model, how.target)
    return engine
