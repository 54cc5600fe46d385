"""Publication: writing a version of a model repository, and making it current in one step."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vireo_client.bundle import BUNDLE_FILE, Bundle
from vireo_client.captions import CaptionedImage
from vireo_client.errors import ExportError
from vireo_client.files import replacing
from vireo_client.repository import (
    ALL_MODELS,
    MODELS,
    PARITY_FILE,
    VERSIONS_FILE,
    Versions,
    current_version,
    highest_version,
    read_versions,
    release_folder,
    write_versions,
)

from ..configs.triton_config import CONFIG_FILE, ServingOptions, write_config
from ..models.files import write_model_file
from ..targets import Cpu, Target
from .link import link
from .lock import locked
from .warm_up import add_warm_up


@contextmanager
def publishing(repository: Path, *, keep: int = 2) -> Iterator[Path]:
    """Yield a folder to write a new version to; when the block ends well, it is `repository`.

    The new version is current then, and older ones lie beside it. A reader sees the old repository
    or the new one. If the block raises or the process is killed, `repository` stays as it was.

    Args:
        repository: the model repository to write or replace.
        keep: the most versions to have afterwards, the new one included.

    Raises:
        ExportError: `keep` is not 1 or more, or another export published meanwhile.
        VireoError: `repository` is a file, or a folder of another kind.
    """
    if keep < 1:
        raise ExportError(f"keep is {keep}; the new version is one, so it must be 1 or more")
    repository = repository.resolve()  # two names of one repository have one lock
    version = _next_version(repository)
    # The lock is taken when the version is complete, and dropped after the exchange.
    with ExitStack() as exchanged, replacing(repository, marker=PARITY_FILE) as draft:
        write_versions(draft, Versions(version, (version,)))
        yield draft
        release = release_folder(draft, version)
        release.mkdir()
        for file in draft.iterdir():
            if file.is_file() and file.name != VERSIONS_FILE:
                link(file, release / file.name)
        exchanged.enter_context(locked(repository))
        if _next_version(repository) != version:
            raise ExportError(
                f"{repository}: another export published version {version} meanwhile; run this one "
                "again"
            )
        before = read_versions(repository)
        # The version that was current comes first: a rollback should find it.
        kept = sorted(before.kept, key=lambda v: (v == before.current, v), reverse=True)
        older = kept[: keep - 1]
        for model in ALL_MODELS:
            for number in older:
                _keep(repository / model, draft / model, number)
        write_versions(draft, Versions(version, tuple(sorted([version, *older]))))


def _next_version(repository: Path) -> int:
    return max(highest_version(repository), *read_versions(repository).kept, 0) + 1


def _keep(source: Path, target: Path, version: int) -> None:
    for name in (str(version), f"warmup/{version}"):
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, copy_function=link)


def write_repository(
    repository: Path,
    bundle: Bundle,
    engines: dict[str, Path],
    options: ServingOptions,
    *,
    target: Target = Cpu(),
    records: Sequence[CaptionedImage] = (),
) -> None:
    """Write a model repository of one version.

    It holds a folder for each model that Triton loads, and the bundle's `bundle.json` and text
    files, which Triton passes over, so that a client needs this one folder.

    Args:
        repository: the folder that `publishing` yielded; it may hold `engines`.
        bundle: the bundle that the engines were made from.
        engines: ONNX files or TensorRT plans by model name, on the same file system; they are
            moved. Files beside one whose names begin with its own (`x.onnx.data`) go with it.
        options: the options that every target has.
        target: what runs the towers.
        records: captioned images; warm-up uses their texts and an image.

    Raises:
        ExportError: `options` or `engines` do not fit `target`.
    """
    _check_engines(engines, target)
    version = current_version(repository)
    for file in (bundle.folder / BUNDLE_FILE, *bundle.text_files()):
        shutil.copyfile(file, repository / file.name)
    configs = target.configs(bundle.config, options, version=version)
    for model in configs:
        (repository / model / str(version)).mkdir(parents=True)
    add_warm_up(
        configs, repository, bundle, records, options, target=target, version=version
    )  # fmt: skip
    for model, config in configs.items():
        folder = repository / model / str(version)
        write_config(config, repository / model)
        # A version has a copy of its own, which a rollback puts back.
        shutil.copyfile(repository / model / CONFIG_FILE, folder / CONFIG_FILE)
        if model in MODELS:
            move_engine(engines[model], folder)
        if config.backend == "python":
            write_model_file(model, folder)
    texts = [BUNDLE_FILE, *(file.name for file in bundle.text_files())]
    for model, names in (
        (target.text_preprocessor, texts),
        (target.image_preprocessor, [BUNDLE_FILE]),
    ):
        for name in names:
            link(repository / name, repository / model / str(version) / name)


def _check_engines(engines: dict[str, Path], target: Target) -> None:
    for model, engine in engines.items():
        if engine.suffix not in target.engine_suffixes:
            raise ExportError(
                f"{model}: target {target.name} runs {target.engine_suffixes[0]} files, "
                f"{engine.name} is none; build the engines for this target first"
            )


def move_engine(engine: Path, folder: Path) -> Path:
    """Move an engine, its data and its manifest to the folder where Triton looks for it.

    Returns:
        The engine's new path.
    """
    for beside in engine.parent.glob(f"{engine.name}.*"):
        # An ONNX file names its external data; a plan's manifest is found by the plan's name.
        renamed = (
            beside.name
            if engine.suffix == ".onnx"
            else beside.name.replace(engine.stem, "model", 1)
        )
        beside.rename(folder / renamed)
    return engine.rename(folder / f"model{engine.suffix}")
