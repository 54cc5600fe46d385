"""TensorRT plans: profiles, the build, the manifest that says where a plan runs, Triton's settings.

Nothing here imports TensorRT until a plan is built, so that profiles, `trtexec` lines and
configurations can be written on a machine without a GPU.
"""
