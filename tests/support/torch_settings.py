"""Settings of torch for all tests that use it; importing this module makes them.

The models are tiny, and threads that wait for each other at every operator take a hundred times as
long where the machine has other work. Some tests import timm themselves.
"""

from __future__ import annotations

import torch
from vireo_training.models.torchvision_ops import ensure_torchvision

torch.set_num_threads(1)
ensure_torchvision()
