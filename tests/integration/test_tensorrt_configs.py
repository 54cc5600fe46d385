"""A real Triton reads the configurations for TensorRT, as far as one without a GPU can.

Its own parser and checks take the text; the backends that act on it are not in the carrier.
"""

import shutil

from tritonclient.grpc import InferenceServerClient
from vireo_client.repository import IMAGE_MODEL, TEXT_MODEL
from vireo_export.ports import Ports
from vireo_export.server import TritonServer
from vireo_export.tensorrt.native import cuda_graphs
from vireo_export.tensorrt.onnxruntime_ep import tensorrt_provider
from vireo_export.tensorrt.profiles import bundle_profiles
from vireo_export.triton_config import read_config, write_config


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
                read = client.get_model_config(model).config.optimization
                assert read.cuda == policy.cuda
                assert read.execution_accelerators == policy.execution_accelerators
