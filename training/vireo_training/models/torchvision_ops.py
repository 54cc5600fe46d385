"""Lets torchvision be imported beside a CPU build of torch.

PyPI's torchvision wheel is built for CUDA torch. Beside a CPU torch its compiled operators do not
load, and `import torchvision` (which timm does) then fails while registering fake kernels for
`torchvision::nms` and `torchvision::qnms`, which do not exist. Declaring the two schemas is enough:
nothing in this project calls them. Where torchvision imports by itself, nothing is declared.
"""

from __future__ import annotations

import importlib
import sys

import torch

_library: torch.library.Library | None = None  # kept alive: the schemas go when it does


def ensure_torchvision() -> None:
    """Import torchvision, declaring the operators it misses only if the plain import fails.

    Raises:
        ImportError: torchvision is not installed.
        RuntimeError: the import fails for another reason than the missing operators.
    """
    global _library
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # the half-imported package
        _library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for operator in ("nms", "qnms"):
            schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            _library.define(schema)  # type: ignore[no-untyped-call]
        importlib.import_module("torchvision")
