"""Triton's own parser accepts the configurations for TensorRT.

The backends that act on them are not in the Triton that the tests run.
"""

import shutil

from tritonclient.grpc import InferenceServerClient
from vireo_client.repository import IMAGE_MODEL, TEXT_MODEL
from vireo_serving.configs.triton_config import read_config, write_config
from vireo_serving.plans.profiles import bundle_profiles
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer
from vireo_serving.targets.onnxruntime import tensorrt_provider
from vireo_serving.targets.tensorrt import cuda_graph_policy


def test_triton_reads_back_both_policies(repository, tmp_path):
    folder = tmp_path / "repository"
    shutil.copytree(repository.folder, folder)
    profiles = bundle_profiles(repository.config, 64)
    policies = {
        TEXT_MODEL: cuda_graph_policy(profiles[TEXT_MODEL]),
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
