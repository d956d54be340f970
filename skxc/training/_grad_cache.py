"""Gradient caching: exact gradients of a loss over many encoded rows, in the memory of a few.

1. encode all chunks without a graph, keeping the state of the random generators before each;
2. compute the loss's gradient with respect to the vectors;
3. encode each chunk again, with a graph and the same random numbers, and send its gradient back.

Source: Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup (arXiv 2101.06983).
The price is one more forward pass. Without the replay of step 3 dropout masks would differ and the
gradients be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

Encode = Callable[[Any], Tensor]


class _RandomState:
    """State of the CPU generator, and of the device's where there is one."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)


def backward_in_chunks(
    encode: Encode,
    chunks: Sequence[Any],
    loss_of: Callable[[Tensor], Tensor],
    device: torch.device,
) -> Tensor:
    """Accumulate the gradients of ``loss_of(torch.cat([encode(c) for c in chunks]))``.

    Parameters
    ----------
    encode : callable
        Maps a chunk to a tensor of shape (rows, d); its parameters receive gradients.
    chunks : sequence
        What `encode` takes; the memory of one chunk's graph bounds the memory of the step.
    loss_of : callable
        Maps all vectors, in the order of the chunks, to a scalar; may have parameters of its own.
    device : torch.device
        Where dropout draws its numbers.

    Returns
    -------
    Tensor
        The detached loss.
    """
    states, parts = [], []
    with torch.no_grad():
        for chunk in chunks:
            states.append(_RandomState(device))
            parts.append(encode(chunk))
    vectors = torch.cat(parts).requires_grad_()
    loss = loss_of(vectors)
    loss.backward()
    after = _RandomState(device)
    gradients = cast(Tensor, vectors.grad).split([len(part) for part in parts])
    for chunk, state, gradient in zip(chunks, states, gradients, strict=True):
        state.restore()
        encode(chunk).backward(gradient)
    after.restore()
    return loss.detach()
