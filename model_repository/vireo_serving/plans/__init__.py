"""TensorRT plans: what one is made from and where it runs. Nothing here builds one."""
