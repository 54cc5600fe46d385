"""A model repository whose answers show which publication computed each part of them.

Real Python-backend models and real ensembles, but no networks: `preprocess_*` hands its own tag on,
and a tower answers with the tag that it got and its own. An answer with two different tags mixes
two publications.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpc
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb
from vireo_client import __version__
from vireo_client.bundle import BUNDLE_FILE, TOKENIZER_FILE, Bundle
from vireo_client.files import replacing
from vireo_serving.models import exported_with
from vireo_serving.models.files import FILES

ENGINES = ("preprocess_text", "text_encoder", "preprocess_image", "image_encoder")
ENSEMBLES = ("embed_text", "embed_image")

FOREIGN = "raise RuntimeError('code from the repository was run')\n"
"""What lies as `model.py` in the repository: the server must not run it."""

_MODEL = """
import json, time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self.tag = float(parameters["tag"])
        self.output = config["output"][0]
        if parameters["broken"] == "True":
            raise OSError("no room")

    def execute(self, requests):
        time.sleep(0.004)  # so that requests are on their way at every moment
        answers = []
        for request in requests:
            value = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            size = self.output["dims"][0]
            if self.output["name"] == "embedding":
                own = np.full((len(value), int(size) - 1), self.tag)
                row = np.concatenate([value[:, :1], own], 1)
            else:
                row = np.full((len(value), int(size)), self.tag)
            tensor = pb_utils.Tensor(self.output["name"], row.astype(np.float32))
            answers.append(pb_utils.InferenceResponse([tensor]))
        return answers
"""


def write_model_files(folder: Path) -> Path:
    """Write model files that answer with tags, to take the place of `vireo_serving`'s own.

    A test sets `vireo_serving.models.files.FOLDER` to the folder that this returns.
    """
    folder.mkdir()
    for name in FILES.values():
        (folder / name).write_text(_MODEL)
    return folder


def publish(
    repository: Path,
    bundle: Bundle,
    tag: int,
    *,
    version: int | None = None,
    width: int = 3,
    broken: str | None = None,
    bundle_id: str | None = None,
) -> None:
    """Publish to `repository` as export does: one exchange of the whole folder.

    Args:
        tag: the number in all its answers.
        version: the models' version; by default `tag`.
        width: numbers that pass from preprocessing to towers, and D; another one makes another
            signature.
        broken: an engine that raises while it loads, or an ensemble whose parts do not fit.
        bundle_id: by default one of its own.
    """
    number = version or tag
    with replacing(repository, marker=BUNDLE_FILE) as draft:
        described = json.loads((bundle.folder / BUNDLE_FILE).read_text(encoding="utf-8"))
        described["bundle_id"] = bundle_id or f"tagged-version-{tag:04}"
        (draft / BUNDLE_FILE).write_text(json.dumps(described), encoding="utf-8")
        shutil.copyfile(bundle.folder / TOKENIZER_FILE, draft / TOKENIZER_FILE)
        for model in ENGINES:
            folder = draft / model / str(number)
            folder.mkdir(parents=True)
            (folder / "model.py").write_text(FOREIGN)
            _write(draft, _engine(model, tag, number, width, broken=model == broken))
        for ensemble in ENSEMBLES:
            (draft / ensemble / str(number)).mkdir(parents=True)
            _write(draft, _ensemble(ensemble, number, width, bad=ensemble == broken))


def _write(draft: Path, config: pb.ModelConfig) -> None:
    path = draft / config.name / "config.pbtxt"
    path.write_text(text_format.MessageToString(config), encoding="utf-8")


def _engine(name: str, tag: int, version: int, width: int, *, broken: bool) -> pb.ModelConfig:
    tower = name.endswith("_encoder")
    output = "embedding" if tower else "OUT"
    config = pb.ModelConfig(
        name=name,
        backend="python",
        max_batch_size=8,
        input=[pb.ModelInput(name="IN", data_type=pb.TYPE_FP32, dims=[width if tower else 1])],
        output=[pb.ModelOutput(name=output, data_type=pb.TYPE_FP32, dims=[width])],
        dynamic_batching=pb.ModelDynamicBatching(),
        instance_group=[pb.ModelInstanceGroup(count=1, kind=pb.ModelInstanceGroup.KIND_CPU)],
    )
    config.version_policy.specific.versions.append(version)
    for key, value in (
        ("tag", tag),
        ("broken", broken),
        ("bundle_id", f"tagged-version-{tag:04}"),
        (exported_with.PARAMETER, __version__),
    ):
        config.parameters[key].string_value = str(value)
    return config


def _ensemble(name: str, version: int, width: int, *, bad: bool) -> pb.ModelConfig:
    kind = name.removeprefix("embed_")
    config = pb.ModelConfig(
        name=name,
        platform="ensemble",
        max_batch_size=8,
        input=[pb.ModelInput(name="IN", data_type=pb.TYPE_FP32, dims=[1])],
        output=[
            pb.ModelOutput(
                name="embedding", data_type=pb.TYPE_FP32, dims=[width + 1 if bad else width]
            )
        ],
    )
    config.version_policy.specific.versions.append(version)
    config.parameters[exported_with.PARAMETER].string_value = __version__
    for model, source, result in (
        (f"preprocess_{kind}", ("IN", "IN"), ("OUT", "between")),
        (f"{kind}_encoder", ("IN", "between"), ("embedding", "embedding")),
    ):
        step = config.ensemble_scheduling.step.add(model_name=model, model_version=version)
        step.input_map[source[0]] = source[1]
        step.output_map[result[0]] = result[1]
    return config


def answer_tags(client: grpc.InferenceServerClient, ensemble: str) -> tuple[int, int]:
    """Send one request; return the tags of the preprocessing and of the tower that answered."""
    tensor = grpc.InferInput("IN", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 1), np.float32))
    row = client.infer(ensemble, [tensor], client_timeout=120).as_numpy("embedding")[0]
    return int(row[0]), int(row[-1])
