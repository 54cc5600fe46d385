"""Writes a publication for Triton: engines under names of their own, and ensembles over them.

Triton replaces one model at a time, but a repository is more than one model, and an answer must
come from one publication. So each engine is loaded under a name with its publication's tag, its
slot (`text_encoder@3`), and every name that clients use is an ensemble: `embed_text` as exported,
but over these slots; `text_encoder` with its slot as the only step. A reload then replaces
ensembles, which have nothing to load, while the engines of both publications are loaded. An
ensemble holds all its engines from the moment when a request starts, so that no answer mixes two
publications.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from ..configs.triton_config import CONFIG_FILE
from ..models.files import write_model_file
from .publication import PYTHON_BACKEND, Publication, copy_tree


class Layout:
    """Writes the models of one publication into the folder that Triton reads.

    Args:
        publication: the publication.
        root: the folder.
        tag: differs from the tags of other publications in `root`.
    """

    def __init__(self, publication: Publication, root: Path, tag: str) -> None:
        self.publication = publication
        self.root = root
        self.tag = tag
        self.slots = {model: f"{model}@{tag}" for model in publication.engines()}
        """Names of the engines, by model name."""
        self.trials = {model: f"{model}@{tag}" for model in publication.ensembles()}
        """Names under which ensembles are loaded on trial, by model name."""
        self.names = [*publication.configs]
        """The names that clients use."""

    def write_slots(self) -> None:
        """Write the engines, and the ensembles under the names of `trials`.

        A model in Python runs this vireo's own `model.py`, not the file in the repository: an older
        one may need modules that have moved, and a stranger's may do anything.
        """
        for model, slot in self.slots.items():
            self.remove(slot)
            config = self.publication.config(model)
            config.name = slot
            copy_tree(self.publication.folder / model, self.root / slot, code=False)
            if config.backend == PYTHON_BACKEND:
                version = self.root / slot / str(self.publication.versions[model])
                write_model_file(model, version)
                # Python would write its cache beside model.py. Triton would then take the model
                # for a modified one, and load it again with the first ensemble that uses it.
                # PYTHONDONTWRITEBYTECODE does not reach the backend's Python, but it writes
                # nothing where a file has the name of the cache's folder.
                (version / "__pycache__").touch()
            self._write(config)
        for ensemble, trial in self.trials.items():
            self._write(self._ensemble(ensemble, trial))

    def write_name(self, model: str) -> None:
        """Write the ensemble that clients call `model`."""
        if model in self.slots:
            self._write(self._over_slot(model))
        else:
            self._write(self._ensemble(model, model))

    def keep_alone(self) -> None:
        """Write the names anew, and remove what other publications have left in the folder."""
        own = {*self.slots.values(), *self.names}
        for entry in self.root.iterdir():
            if entry.name not in own:
                self.remove(entry.name)
        for name in self.names:
            self.write_name(name)

    def remove(self, name: str) -> None:
        """Remove a slot, a trial or a name."""
        shutil.rmtree(self.root / name, ignore_errors=True)

    def _ensemble(self, model: str, name: str) -> pb.ModelConfig:
        config = self.publication.config(model)
        config.name = name
        for step in config.ensemble_scheduling.step:
            step.model_version = self.publication.versions[step.model_name]
            step.model_name = self.slots[step.model_name]
        return config

    def _over_slot(self, model: str) -> pb.ModelConfig:
        """Return an ensemble with the signature, batch size and parameters of an engine."""
        engine = self.publication.config(model)
        # An ensemble has no optional inputs; clients know such an engine by its first tensors.
        first = slice(1 if engine.input[0].optional else None)
        config = pb.ModelConfig(
            name=model,
            platform="ensemble",
            max_batch_size=engine.max_batch_size,
            version_policy=engine.version_policy,
            input=engine.input[first],
            output=engine.output[first],
        )
        for key, value in engine.parameters.items():
            config.parameters[key].CopyFrom(value)
        step = config.ensemble_scheduling.step.add(
            model_name=self.slots[model], model_version=self.publication.versions[model]
        )
        for tensor in config.input:
            tensor.ClearField("reshape")  # only the engine needs it
            tensor.ClearField("optional")
            step.input_map[tensor.name] = tensor.name
        for tensor in config.output:
            tensor.ClearField("reshape")
            step.output_map[tensor.name] = tensor.name
        return config

    def _write(self, config: pb.ModelConfig) -> None:
        folder = self.root / config.name
        (version,) = config.version_policy.specific.versions
        (folder / str(version)).mkdir(parents=True, exist_ok=True)  # ensembles must have one too
        path = folder / CONFIG_FILE
        path.unlink(missing_ok=True)  # a link: writing through it would change the original
        path.write_text(text_format.MessageToString(config), encoding="utf-8")
