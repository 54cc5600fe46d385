"""TensorRT plans: their profiles, recipes and manifests. Nothing here builds a plan."""
