"""A real Triton reads the configurations for TensorRT, as far as one without a GPU can.

Its own parser and checks take the text; the backends that act on it are not in the carrier.
"""

import shutil

from tritonclient.grpc import InferenceServerClient
from vireo_client.repository import IMAGE_MODEL, TEXT_MODEL
from vireo_serving.configs.triton_config import read_config, write_config
from vireo_serving.plans.profiles import bundle_profiles
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer
from vireo_serving.targets.onnxruntime import tensorrt_provider
from vireo_serving.targets.tensorrt import cuda_graphs


def test_triton_reads_both_policies_as_they_were_meant(repository, tmp_path):
    folder = tmp_path / "repository"
    shutil.copytree(repository.folder, folder)
    profiles = bundle_profiles(repository.config, 64)
    policies = {
        TEXT_MODEL: cuda_graphs(profiles[TEXT_MODEL]),
        IMAGE_MODEL: tensorrt_provider(profiles[IMAGE_MODEL], "0" * 64, "/cache"),
    }
    for model, policy in policies.items():
        config = read_config(folder / model / "config.pbtxt")
        config.optimization.CopyFrom(policy)
        write_config(config, folder / model)
    with TritonServer(folder, ports=Ports(0, 0, 0)) as server:
        with InferenceServerClient(server.url) as client:
            for model, policy in policies.items():
                name = server.engine_name(model)
                read = client.get_model_config(name).config.optimization
                assert read.cuda == policy.cuda
                assert read.execution_accelerators == policy.execution_accelerators
