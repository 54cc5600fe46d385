"""Writes a model repository: its models, its versions, and all of it at once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from vireo_client.bundle import BUNDLE_FILE, TOKENIZER_FILE, Bundle
from vireo_client.captions import CaptionedImage
from vireo_client.errors import BundleError, ExportError
from vireo_client.files import replacing
from vireo_client.repository import (
    ALL_MODELS,
    MODELS,
    PARITY_FILE,
    PREPROCESS_IMAGE,
    PREPROCESS_TEXT,
    VERSIONS_FILE,
    Versions,
    current_version,
    highest_version,
    read_versions,
    release_folder,
    write_versions,
)

from ..configs import build_configs
from ..configs.triton_config import CONFIG_FILE, ServingOptions, Target, write_config
from .link import link
from .warm_up import add_warm_up

_OWN_FILES = {BUNDLE_FILE, TOKENIZER_FILE, VERSIONS_FILE, CONFIG_FILE, "build.sh", *ALL_MODELS}
_OWN_STEMS = ("model.", "parity.", "timing.", "__")
_CODE = (".py", ".pyc", ".so")


@contextmanager
def publishing(repository: Path, *, keep: int = 2) -> Iterator[Path]:
    """Gives a folder to lay out a new version in; when the block ends well, it is `repository`.

    The new version is in use, older ones lie beside it, and no moment shows less. If the block
    raises or the process is killed, `repository` stays as it was.

    Args:
        repository: the model repository to write or replace.
        keep: how many versions there are afterwards at most, the new one included.

    Raises:
        ExportError: `keep` is not 1 or more, or another export was quicker.
        VireoError: `repository` is something else.
    """
    if keep < 1:
        raise ExportError(f"keep is {keep}; the new version is one, so it must be 1 or more")
    version = _next_version(repository)
    with replacing(repository, marker=PARITY_FILE) as draft:
        write_versions(draft, Versions(version, (version,)))
        yield draft
        release = release_folder(draft, version)
        release.mkdir()
        for file in draft.iterdir():
            if file.is_file() and file.name != VERSIONS_FILE:
                link(file, release / file.name)
        if _next_version(repository) != version:
            raise ExportError(
                f"{repository}: another export published version {version} meanwhile; run this one "
                "again"
            )
        before = read_versions(repository)
        # What served until now comes first: it is what one goes back to.
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


def lay_out(
    repository: Path,
    bundle: Bundle,
    engines: dict[str, Path],
    options: ServingOptions,
    *,
    target: Target = "cpu",
    records: Sequence[CaptionedImage] = (),
) -> None:
    """Fills a folder as a model repository of one version.

    It holds what Triton loads (a folder a model) and, as plain files that Triton passes over,
    `bundle.json` and the text files, so that a client needs this one folder.

    Args:
        repository: the folder that `publishing` gave; it may hold `engines`.
        bundle: what the engines were made from.
        engines: ONNX files or TensorRT plans by model name, on the same file system; they are
            moved. Files beside one whose names begin with its own (`x.onnx.data`) go with it.
        options: what the operator set.
        target: what runs the towers.
        records: where warm-up takes sentences and a picture from.

    Raises:
        BundleError: a file of the segmenter has a name that a repository uses itself.
        ExportError: `options` or `engines` do not go with `target`.
    """
    _check_engines(engines, target)
    _check_segmenter_files(bundle)
    version = current_version(repository)
    for file in (bundle.folder / BUNDLE_FILE, *bundle.text_files()):
        shutil.copyfile(file, repository / file.name)
    configs = build_configs(bundle.config, options, target=target, version=version)
    for model in configs:
        (repository / model / str(version)).mkdir(parents=True)
    add_warm_up(
        configs, repository, bundle, records, options, target=target, version=version
    )  # fmt: skip
    for model, config in configs.items():
        folder = repository / model / str(version)
        write_config(config, repository / model)
        # Its own copy: going back to a version brings its configuration back too.
        shutil.copyfile(repository / model / CONFIG_FILE, folder / CONFIG_FILE)
        if model in MODELS:
            move_engine(engines[model], folder)
            if target == "cpu":
                _copy_model("onnx_tower.py", folder)
        elif config.backend == "python":
            _copy_model(f"{model}.py", folder)
    texts = [BUNDLE_FILE, *(file.name for file in bundle.text_files())]
    # Whoever preprocesses: on target cpu the towers themselves.
    text, image = MODELS if target == "cpu" else (PREPROCESS_TEXT, PREPROCESS_IMAGE)
    for model, names in ((text, texts), (image, [BUNDLE_FILE])):
        for name in names:
            link(repository / name, repository / model / str(version) / name)


def _check_engines(engines: dict[str, Path], target: Target) -> None:
    # Graphs of target tensorrt are laid out for a build on another machine.
    suffixes = (".plan", ".onnx") if target == "tensorrt" else (".onnx",)
    for model, engine in engines.items():
        if engine.suffix not in suffixes:
            raise ExportError(
                f"{model}: target {target} runs {suffixes[0]} files, {engine.name} is none; build "
                "the engines for this target first"
            )


def _check_segmenter_files(bundle: Bundle) -> None:
    """Refuse a bundle whose files would take the place of the repository's own.

    A bundle may be a stranger's, and the files lie beside the models' code.
    """
    for name in bundle.config.text.segmenter_files:
        lower = name.lower()
        if (
            name != Path(name).name  # a path, which leads elsewhere
            or lower in _OWN_FILES
            or lower.startswith(_OWN_STEMS)
            or lower.endswith(_CODE)
        ):
            raise BundleError(
                f"{bundle.folder}: its bundle.json names {name!r} as a file of the segmenter, but "
                "such a file would become part of the model repository itself; it is not "
                "published. Use this bundle only if you trust where it comes from, and rename the "
                "file"
            )


def move_engine(engine: Path, folder: Path) -> Path:
    """Moves an engine and what lies beside it (data, a manifest) to where Triton looks for it.

    Returns:
        Its new path.
    """
    for beside in engine.parent.glob(f"{engine.name}.*"):
        # An ONNX file names its external data; a plan's manifest is found by the plan's name.
        named = (
            beside.name
            if engine.suffix == ".onnx"
            else beside.name.replace(engine.stem, "model", 1)
        )
        beside.rename(folder / named)
    return engine.rename(folder / f"model{engine.suffix}")


def _copy_model(name: str, folder: Path) -> None:
    code = (resources.files("vireo_serving.models") / name).read_text("utf-8")
    (folder / "model.py").write_text(code, encoding="utf-8")
