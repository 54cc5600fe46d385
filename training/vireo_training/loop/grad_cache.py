"""Cached gradients: the loss of a large batch in the memory of a small one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

import torch
from torch import Tensor, nn

Chunk: TypeAlias = tuple[Tensor, ...]
"""Arguments of the model: images UINT8 `[B, 3, H, W]` and input ids `[T, L]`, once or more."""
Context: TypeAlias = Callable[[], AbstractContextManager[object]]


def cached_backward(
    model: nn.Module,
    chunks: Sequence[Chunk],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    *,
    scale: Callable[[Tensor], Tensor] = lambda loss: loss,
    no_sync: Context = nullcontext,
    autocast: Context = nullcontext,
) -> Tensor:
    """Add the gradient of a loss over all chunks, holding the activations of one chunk at a time.

    Gao et al., 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
    section 3: embeddings of every chunk without a graph; the loss of all of them and its gradient
    with respect to each; then each chunk once more, with a graph, through which that gradient goes
    back. It costs one more forward pass. The result is the gradient of `loss_of` over the
    concatenated chunks, as `loss.backward()` would add it: the second pass has the first one's
    dropout and sees the same batch-norm statistics. (Batch norm itself normalises by chunk, and its
    running statistics move once a chunk.)

    Args:
        model: returns the image and text embeddings of one chunk.
        chunks: at least one, in the order that `loss_of` expects. Their number may differ between
            ranks.
        loss_of: the loss, a scalar, of all chunks' image and text embeddings; it gathers those of
            other ranks itself (`gather_rows`). Its own parameters get their gradients too.
        scale: maps the loss to the scalar that is differentiated, such as `GradScaler.scale`.
        no_sync: returns a context in which gradients are not averaged over ranks, such as
            `DistributedDataParallel.no_sync`; only the last chunk runs outside one.
        autocast: returns the context of each forward pass. Enter none around this function: a cast
            of the weights made without a graph would be reused with one.

    Returns:
        The loss, unscaled and detached.
    """
    before = [buffer.clone() for buffer in model.buffers()]
    random_states, embeddings = [], []
    with torch.no_grad():
        for chunk in chunks:
            random_states.append(_RandomState(model))
            with autocast():
                embeddings.append(model(*chunk))
        # The second pass moves running statistics again.
        for buffer, value in zip(model.buffers(), before, strict=True):
            buffer.copy_(value)

    images, texts = (torch.cat(parts).requires_grad_() for parts in zip(*embeddings, strict=True))
    loss = loss_of(images, texts)
    parameters = [leaf for leaf in _leaves(loss) if leaf is not images and leaf is not texts]
    # Not `loss.backward()`: DistributedDataParallel must see every parameter in the last chunk.
    image_gradient, text_gradient, *rest = torch.autograd.grad(
        scale(loss), [images, texts, *parameters], materialize_grads=True
    )
    image_end = text_end = 0
    for number, (chunk, random_state) in enumerate(zip(chunks, random_states, strict=True), 1):
        last = number == len(chunks)
        with nullcontext() if last else no_sync():
            random_state.restore()
            with autocast():
                image, text = model(*chunk)
            image_start, image_end = image_end, image_end + len(image)
            text_start, text_end = text_end, text_end + len(text)
            roots = [
                (image, image_gradient[image_start:image_end]),
                (text, text_gradient[text_start:text_end]),
            ]
            if last:
                roots += zip(parameters, rest, strict=True)
            # A frozen tower's embeddings need no gradient.
            roots = [root for root in roots if root[0].requires_grad]
            torch.autograd.backward([r for r, _ in roots], [g for _, g in roots])
    return loss.detach()


class _RandomState:
    """The state of torch's random generators, on the CPU and the GPUs that hold `model`."""

    def __init__(self, model: nn.Module) -> None:
        self.devices = sorted({p.device.index for p in model.parameters() if p.is_cuda})
        self.cpu = torch.get_rng_state()
        self.cuda = [torch.cuda.get_rng_state(device) for device in self.devices]

    def restore(self) -> None:
        """Set the generators back, so that they draw the same numbers again."""
        torch.set_rng_state(self.cpu)
        for device, state in zip(self.devices, self.cuda, strict=True):
            torch.cuda.set_rng_state(state, device)


def _leaves(result: Tensor) -> list[Tensor]:
    """Return the leaf tensors that `result` depends on and that need a gradient, each once."""
    nodes, seen, leaves = [result.grad_fn], set(), []
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # where a gradient accumulates
            leaves.append(node.variable)
        nodes += [following for following, _ in node.next_functions]
    return leaves
