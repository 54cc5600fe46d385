"""Real processes of torch.distributed for tests, and what they compute."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from vireo_training.loop.gather import gather_rows
from vireo_training.loop.grad_cache import Chunk, cached_backward
from vireo_training.loop.loss import contrastive_loss, siglip_loss, text_pair_loss

TEXTS = torch.tensor([0, 1, 2, 3, 4, 5, 6, 1, 8, 9, 3, 4, 4])
"""The texts of `batch`: some are shared by images of one rank, some by images of both."""
LOSSES = ("infonce", "siglip", "text_pairs")
WIDTH = 8


class SmallEncoder(nn.Module):
    """A dual encoder without batch norm, with the parameters that `loss` has."""

    def __init__(self, loss: str = "infonce", dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.image = nn.Sequential(
            nn.Linear(6, 12), nn.Tanh(), nn.Dropout(dropout), nn.Linear(12, WIDTH)
        )
        self.tokens = nn.Embedding(40, 12)
        self.text = nn.Sequential(nn.Tanh(), nn.Dropout(dropout), nn.Linear(12, WIDTH))
        self.log_logit_scale = nn.Parameter(torch.tensor(1.5))
        self.logit_bias = nn.Parameter(torch.tensor(-2.0)) if loss == "siglip" else None

    def forward(self, images: Tensor, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        image = F.normalize(self.image(images), dim=-1)
        return image, F.normalize(self.text(self.tokens(input_ids).mean(1)), dim=-1)

    def gradients(self) -> dict[str, Tensor]:
        return {n: p.grad.clone() for n, p in self.named_parameters() if p.grad is not None}


def split_chunks(images: Tensor, input_ids: Tensor, owner: Tensor, size: int) -> list[Chunk]:
    """Cuts a batch, its captions in the order of their images, into runs of `size` images."""
    parts = images.tensor_split(-(-len(images) // size))
    ends = torch.tensor([len(part) for part in parts]).cumsum(0)[:-1]
    cuts = torch.searchsorted(owner, ends).tolist()  # each chunk's first caption
    return list(zip(parts, input_ids.tensor_split(cuts), strict=True))


def gather_batch(image: Tensor, text: Tensor, owner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All ranks' embeddings, `owner` pointing to the rows of all images."""
    if dist.is_initialized():
        counts = gather_rows(torch.tensor([float(len(image))])).long().tolist()
        owner = owner + sum(counts[: dist.get_rank()])
    return gather_rows(image), gather_rows(text), gather_rows(owner)


def whole_loss(loss: str, model: SmallEncoder, image: Tensor, text: Tensor, owner: Tensor):
    """The named loss over the batches of all ranks, whose texts every rank knows."""
    image, text, owner = gather_batch(image, text, owner)
    scale = model.log_logit_scale.exp()
    if loss == "siglip":
        return siglip_loss(image, text, owner, scale, model.logit_bias, TEXTS)
    if loss == "text_pairs":
        # The image tower takes part with nothing, as DistributedDataParallel wants.
        return text_pair_loss(text, owner, scale, TEXTS) + 0 * image.sum()
    return contrastive_loss(image, text, owner, scale, TEXTS)


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Seven images with thirteen captions."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(7, 6, generator=generator, dtype=torch.float64)
    owner = torch.tensor([0, 0, 0, 1, 2, 2, 3, 3, 3, 4, 5, 5, 6])
    input_ids = torch.randint(40, (len(owner), 4), generator=generator)
    return images, input_ids, owner


def part(rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first three images, with six captions, or the other four, with seven."""
    images, input_ids, owner = batch()
    rows, captions = [(slice(0, 3), slice(0, 6)), (slice(3, 7), slice(6, 13))][rank]
    return images[rows], input_ids[captions], owner[captions] - rows.start


def equal_batch() -> tuple[Tensor, Tensor]:
    """Eight images and texts as unit vectors, four for each rank."""
    generator = torch.Generator().manual_seed(9)
    vectors = torch.randn(2, 8, WIDTH, generator=generator, dtype=torch.float64)
    images, texts = F.normalize(vectors, dim=-1)
    return images, texts


def open_clip_losses() -> Any:
    """open_clip's module of losses alone: the whole package imports every model it has."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None, "open_clip_torch is one of the extras [dev]"
    path = Path(package.submodule_search_locations[0]) / "loss.py"
    spec = importlib.util.spec_from_file_location("open_clip_loss", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def everything(rank: int) -> dict[str, Any]:
    """Compute, on one of two ranks, all that the tests compare with one process."""
    return {
        "gather": _gather(rank),
        "open_clip": _against_open_clip(rank),
        "plain": {loss: _plain(rank, loss) for loss in LOSSES},
        "cached": {loss: _cached(rank, loss) for loss in LOSSES},
        "steps": _steps(rank),
    }


def _gather(rank: int) -> dict[str, Any]:
    rows = torch.full((3 - rank, 2), float(rank + 1), requires_grad=True)
    gathered = gather_rows(rows)
    # Each rank weighs each row differently; a row's gradient must be the sum over both.
    (gathered * torch.arange(1.0, 6.0)[:, None] * 10**rank).sum().backward()
    _, text, owner = gather_batch(torch.zeros(3 + rank, 1), torch.zeros(2, 1), torch.arange(2))
    return {"rows": gathered.detach(), "gradient": rows.grad, "texts": len(text),
            "owner": owner}  # fmt: skip


def _against_open_clip(rank: int) -> dict[str, Any]:
    module = open_clip_losses()
    clip = module.ClipLoss(local_loss=False, gather_with_grad=True, rank=rank, world_size=2)
    siglip = module.SigLipLoss(rank=rank, world_size=2)
    return {
        "infonce": [
            _gradients(rank, lambda i, t, s, b: clip(i, t, s)),
            _gradients(rank, lambda i, t, s, b: contrastive_loss(*_gathered(i, t), s)),
        ],
        "siglip": [
            _gradients(rank, siglip),
            _gradients(rank, lambda i, t, s, b: siglip_loss(*_gathered(i, t), s, b)),
        ],
    }


def _gathered(image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return gather_batch(image, text, torch.arange(len(text)))


def _gradients(rank: int, loss_of: Callable[..., Tensor]) -> list[Tensor]:
    """A loss and its gradients with respect to embeddings, scale and bias.

    What differs between ranks but is averaged in use (the loss, and what scale and bias learn from)
    is averaged.
    """
    rows = slice(4 * rank, 4 * rank + 4)
    image, text = (vectors[rows].clone().requires_grad_() for vectors in equal_batch())
    scale, bias = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (12.0, -9.0))
    loss = loss_of(image, text, scale, bias)
    loss.backward()
    shared = [loss.detach(), scale.grad, torch.zeros(()) if bias.grad is None else bias.grad]
    for value in shared:
        dist.all_reduce(value)
    return [image.grad, text.grad, *(value / 2 for value in shared)]


def _plain(rank: int, loss: str) -> dict[str, Any]:
    model = SmallEncoder(loss).double()
    parallel = DistributedDataParallel(model)
    images, input_ids, owner = part(rank)
    result = whole_loss(loss, model, *parallel(images, input_ids), owner)
    result.backward()
    return {"loss": result.detach(), "gradients": model.gradients()}


def _cached(rank: int, loss: str) -> dict[str, Any]:
    model = SmallEncoder(loss).double()
    parallel = DistributedDataParallel(model)
    images, input_ids, owner = part(rank)
    result = cached_backward(
        parallel,
        split_chunks(images, input_ids, owner, 2 - rank),  # two chunks here, four there
        partial(_loss_of, loss, model, owner),
        no_sync=parallel.no_sync,
    )
    return {"loss": result, "gradients": model.gradients()}


def _loss_of(loss: str, model: SmallEncoder, owner: Tensor, image: Tensor, text: Tensor):
    return whole_loss(loss, model, image, text, owner)


def _steps(rank: int) -> dict[str, Tensor]:
    """The weights after three steps with cached gradients and dropout."""
    model = SmallEncoder("siglip", dropout=0.3).double()
    parallel = DistributedDataParallel(model)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    images, input_ids, owner = part(rank)
    torch.manual_seed(rank)
    for _ in range(3):
        optimiser.zero_grad()
        cached_backward(
            parallel,
            split_chunks(images, input_ids, owner, 2),
            partial(_loss_of, "siglip", model, owner),
            no_sync=parallel.no_sync,
        )
        optimiser.step()
    return model.state_dict()


def run_ranks(function: Callable[[int], Any], folder: Path, world_size: int = 2) -> list[Any]:
    """Return the results of `function(rank)` in several processes joined by gloo.

    `function` stands at the top of a module. The processes find each other through a file in
    `folder`, so that no port can be taken.
    """
    processes = torch.multiprocessing.start_processes(
        _rank, (function, folder, world_size), world_size, join=False, start_method="spawn"
    )
    deadline = time.monotonic() + 120
    try:
        while not processes.join(timeout=1):
            assert time.monotonic() < deadline, f"{world_size} ranks wait for each other"
    finally:
        for process in processes.processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in range(world_size)]


def _rank(rank: int, function: Callable[[int], Any], folder: Path, world_size: int) -> None:
    import os

    torch.set_num_threads(1)
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # whatever the machine's name resolves to
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/ranks", rank=rank, world_size=world_size
    )
    torch.save(function(rank), folder / f"{rank}.pt")
    dist.destroy_process_group()
