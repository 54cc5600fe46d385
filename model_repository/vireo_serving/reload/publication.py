"""A publication: the contents of a model repository at one moment, in a copy of their own."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as pb
from vireo_client.bundle import BUNDLE_FILE, Bundle
from vireo_client.errors import BundleError, VireoError
from vireo_client.repository import MODELS, is_version

from ..configs.triton_config import CONFIG_FILE, read_config
from ..models import exported_with
from ..models.files import FILES
from ..repository.link import link

PYTHON_BACKEND = "python"
_STUB = "triton_python_backend_stub"
_OWN_PYTHON = "EXECUTION_ENV_PATH"
"""Parameter of Triton's Python backend: an archive with a Python to run instead of ours."""
Stamp = tuple[tuple[int, ...], ...]
_TRIES = 20


def stamp(repository: Path) -> Stamp:
    """Return numbers that change with each publication: `vireo export` exchanges the whole folder.

    Raises:
        BundleError: there is no model repository.
    """
    try:
        stats = [os.stat(repository), os.stat(repository / BUNDLE_FILE)]
    except OSError as error:
        raise BundleError(
            f"{error.filename}: {error.strerror}; no model repository there"
        ) from None
    return tuple((s.st_dev, s.st_ino, s.st_mtime_ns if n else 0) for n, s in enumerate(stats))


@dataclass(frozen=True, slots=True)
class Publication:
    """One publication in a folder of its own, which nothing changes."""

    folder: Path
    bundle_id: str
    configs: dict[str, pb.ModelConfig]
    """By model name."""
    versions: dict[str, int]
    """The version to serve, by model name."""

    def exported_with(self) -> set[str | None]:
        """Return the versions of vireo that exported its models; None if one records none."""
        return {
            config.parameters[exported_with.PARAMETER].string_value
            if exported_with.PARAMETER in config.parameters
            else None
            for config in self.configs.values()
        }

    def ensembles(self) -> list[str]:
        """Return the names of the models that only join others."""
        return [name for name, config in self.configs.items() if is_ensemble(config)]

    def engines(self) -> list[str]:
        """Return the names of the models that compute something themselves."""
        return [name for name, config in self.configs.items() if not is_ensemble(config)]

    def config(self, model: str) -> pb.ModelConfig:
        """Return a copy of a model's configuration with the served version as the only one."""
        config = pb.ModelConfig()
        config.CopyFrom(self.configs[model])
        config.version_policy.specific.versions[:] = [self.versions[model]]
        return config


def is_ensemble(config: pb.ModelConfig) -> bool:
    """Return whether a model has no engine of its own."""
    return bool(config.HasField("ensemble_scheduling"))


def copy_publication(repository: Path, folder: Path) -> tuple[Publication, Stamp]:
    """Copy the present publication into `folder`, by hard links where the file system can.

    Triton reads files by their paths while it loads. If a new publication replaced the folder
    meanwhile, Triton would read some files of each; so it is only ever shown such a copy.

    Raises:
        BundleError: `repository` is no model repository, or is incomplete.
        ExportError: a configuration does not parse.
    """
    for _ in range(_TRIES):
        before = stamp(repository)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            publication = _read(repository)
            copy_tree(repository, folder, versions=publication.versions)
        except (VireoError, OSError):
            if stamp(repository) == before:
                raise
            continue  # a new publication has replaced the folder while it was read
        if stamp(repository) == before:
            return replace(publication, folder=folder), before
    raise BundleError(f"{repository}: changes all the time; publish less often")


def _refuse_foreign_code(folder: Path, model: str, config: pb.ModelConfig) -> None:
    """Refuse a configuration that would run other code than vireo's and Triton's own."""
    if config.backend == PYTHON_BACKEND and model not in FILES:
        raise BundleError(
            f"{folder}: {model} is a Python model, and vireo has none of this name (it has "
            f"{', '.join(FILES)}); code in a repository is not run, so remove the model or export "
            "the bundle again"
        )
    # Triton joins these file names to the version's folder as they are: a path leads out of it.
    files = [config.default_model_filename, *config.cc_model_filenames.values()]
    if (
        _OWN_PYTHON in config.parameters
        or config.model_operations.op_library_filename
        or config.runtime
        or config.HasField("model_repository_agents")
        or (config.backend == PYTHON_BACKEND and config.default_model_filename)
        or any(os.sep in file for file in files)
    ):
        raise BundleError(
            f"{folder}: {model} names code of its own, or a file outside its folder "
            f"({CONFIG_FILE}: {_OWN_PYTHON}, op_library_filename, runtime, "
            "model_repository_agents, default_model_filename or cc_model_filenames); code in a "
            "repository is not run, so export the bundle again"
        )


def copy_tree(
    source: Path, target: Path, *, versions: dict[str, int] | None = None, code: bool = True
) -> None:
    """Copy a folder, linking its files instead of copying them where that can be done.

    Args:
        source: a model repository, or a part of one.
        target: does not exist yet.
        versions: of models named here, only this version and the warm-up are copied.
        code: whether files that Triton or Python would run are copied too.
    """

    def left_out(folder: str, names: list[str]) -> list[str]:
        version = (versions or {}).get(os.path.basename(folder))
        # Triton reads any folder's name as a number, and ends where it has too many digits.
        kept = {str(version), "warmup"}
        return [
            name
            for name in names
            if (version is not None and name not in kept and os.path.isdir(f"{folder}/{name}"))
            or (not code and _is_code(name))
        ]

    shutil.copytree(source, target, copy_function=link, ignore=left_out)


def _is_code(name: str) -> bool:
    """Return whether a file or folder of this name may be run because it lies in a model's folder.

    Triton looks there for a backend's library and for its Python stub, and Python for modules.
    """
    return (
        name in (_STUB, "__pycache__")
        or name.endswith((".py", ".pyc", ".pth", ".so"))
        or ".so." in name
    )


def _read(folder: Path) -> Publication:
    for model in MODELS:
        if not (folder / model).is_dir():
            raise BundleError(
                f"{folder}: no {model} here; `vireo export BUNDLE` writes a model repository"
            )
    configs = {
        path.parent.name: read_config(path) for path in sorted(folder.glob(f"*/{CONFIG_FILE}"))
    }
    for model in MODELS:
        if model not in configs:
            raise BundleError(f"{folder}: {model} has no {CONFIG_FILE}; export the bundle again")
    versions = {}
    for model, config in configs.items():
        _refuse_foreign_code(folder, model, config)
        present = {int(f.name) for f in (folder / model).iterdir() if is_version(f.name)}
        wanted = set(config.version_policy.specific.versions) or present
        if is_ensemble(config):
            present |= wanted  # it has no files of its own
        if not wanted & present:
            raise BundleError(
                f"{folder}: {model} lacks the version that it should serve "
                f"({sorted(wanted) or 'none named'}; here: {sorted(present) or 'none'})"
            )
        versions[model] = max(wanted & present)
        for step in config.ensemble_scheduling.step if is_ensemble(config) else ():
            if step.model_name not in configs or is_ensemble(configs[step.model_name]):
                raise BundleError(
                    f"{folder}: {model} is made of {step.model_name}, which is no model with an "
                    "engine here; export the bundle again"
                )
    return Publication(folder, Bundle(folder).bundle_id, configs, versions)
