"""A model repository whose answers tell by which publication each part of them was made.

Real Python-backend models and real ensembles, but no networks: `preprocess_*` hand their own number
on, and the towers answer with the number they were handed and their own. An answer with two
different numbers is one that mixes two publications.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpc
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb
from vireo_client.bundle import BUNDLE_FILE, TOKENIZER_FILE, Bundle
from vireo_client.files import replacing

ENGINES = ("preprocess_text", "text_encoder", "preprocess_image", "image_encoder")
ENSEMBLES = ("embed_text", "embed_image")

_MODEL = """
import json, time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.made_by = float(config["parameters"]["made_by"]["string_value"])
        self.output = config["output"][0]
        BREAK

    def execute(self, requests):
        time.sleep(0.004)  # so that requests are on their way at every moment
        answers = []
        for request in requests:
            value = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            size = self.output["dims"][0]
            if self.output["name"] == "embedding":
                own = np.full((len(value), int(size) - 1), self.made_by)
                row = np.concatenate([value[:, :1], own], 1)
            else:
                row = np.full((len(value), int(size)), self.made_by)
            tensor = pb_utils.Tensor(self.output["name"], row.astype(np.float32))
            answers.append(pb_utils.InferenceResponse([tensor]))
        return answers
"""


def publish(
    repository: Path,
    bundle: Bundle,
    made_by: int,
    *,
    version: int | None = None,
    width: int = 3,
    broken: str | None = None,
    bundle_id: str | None = None,
) -> None:
    """Publishes to `repository` as export does: one exchange of the whole folder.

    Args:
        made_by: the number that all parts of its answers tell.
        version: the models' version; by default `made_by`.
        width: numbers that pass from preprocessing to towers, and D; another one makes another
            signature.
        broken: an engine that raises while it loads, or an ensemble whose parts do not fit.
        bundle_id: by default one of its own.
    """
    number = version or made_by
    with replacing(repository, marker=BUNDLE_FILE) as draft:
        described = json.loads((bundle.folder / BUNDLE_FILE).read_text(encoding="utf-8"))
        described["bundle_id"] = bundle_id or f"told-version-{made_by:04}"
        (draft / BUNDLE_FILE).write_text(json.dumps(described), encoding="utf-8")
        shutil.copyfile(bundle.folder / TOKENIZER_FILE, draft / TOKENIZER_FILE)
        for model in ENGINES:
            folder = draft / model / str(number)
            folder.mkdir(parents=True)
            code = _MODEL.replace("BREAK", "raise OSError('no room')" if model == broken else "")
            (folder / "model.py").write_text(code)
            tower = model.endswith("_encoder")
            _write(
                draft,
                _engine(model, "embedding" if tower else "OUT", tower, made_by, number, width),
            )
        for ensemble in ENSEMBLES:
            (draft / ensemble / str(number)).mkdir(parents=True)
            _write(draft, _ensemble(ensemble, number, width, bad=ensemble == broken))


def _write(draft: Path, config: pb.ModelConfig) -> None:
    path = draft / config.name / "config.pbtxt"
    path.write_text(text_format.MessageToString(config), encoding="utf-8")


def _engine(
    name: str, output: str, tower: bool, made_by: int, version: int, width: int
) -> pb.ModelConfig:
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
    config.parameters["made_by"].string_value = str(made_by)
    config.parameters["bundle_id"].string_value = f"told-version-{made_by:04}"
    return config


def _ensemble(name: str, version: int, width: int, *, bad: bool) -> pb.ModelConfig:
    what = name.removeprefix("embed_")
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
    for model, given, made in (
        (f"preprocess_{what}", ("IN", "IN"), ("OUT", "between")),
        (f"{what}_encoder", ("IN", "between"), ("embedding", "embedding")),
    ):
        step = config.ensemble_scheduling.step.add(model_name=model, model_version=version)
        step.input_map[given[0]] = given[1]
        step.output_map[made[0]] = made[1]
    return config


def ask(client: grpc.InferenceServerClient, ensemble: str) -> tuple[int, int]:
    """Sends one request; tells who preprocessed and whose tower answered."""
    tensor = grpc.InferInput("IN", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 1), np.float32))
    row = client.infer(ensemble, [tensor], client_timeout=30).as_numpy("embedding")[0]
    return int(row[0]), int(row[-1])
