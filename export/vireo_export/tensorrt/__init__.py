"""TensorRT plans: build them here, or prepare a build on another machine.

Only `network` and `plan_towers` import TensorRT. They are imported when a plan is built, so recipes
and `trtexec` lines can be written on a machine without a GPU.
"""
