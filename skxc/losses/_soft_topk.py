"""The soft top-k operator and its loss."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from skxc._params import PositiveFloat, PositiveInt, params
from skxc.losses.base import HIDDEN, LogitLoss, Positives

_MAX_STEPS = 48
# Steps between two looks at whether a device is done, for which the host waits.
_STEPS_PER_LOOK = 8


@params
class SoftTopK(LogitLoss):
    """Ask only that the positives are among the top k (DEXML).

    ``-(1/n) sum_p log z_p`` with ``z = soft_topk(s, k)`` over at most k positives of a row; further
    positives are hidden. It is 0 once all positives are within the top k, whatever their order.

    Parameters
    ----------
    k : int or None, default=5
        Size of the top. None uses the number of positives of each row.
    steepness : float, default=2.0
        a of ``z = sigmoid(a (s + t))``.

    Notes
    -----
    The k positives of a row with more than k are drawn with a fixed seed from their place in the
    batch: the loss is a function of its arguments, and shuffled batches draw others.

    References
    ----------
    Gupta et al., "Dual-Encoders for Extreme Multi-Label Classification", ICLR 2024, soft top-k
    loss.
    """

    k: PositiveInt | None = 5
    steepness: PositiveFloat = 2.0

    def _loss(self, scores: Tensor, positives: Positives) -> Tensor:
        k = positives.per_row.clamp_min(1)
        if self.k is not None:
            generator = torch.Generator().manual_seed(0)
            draw = torch.rand(len(positives.rows), generator=generator).to(scores.device)
            kept = positives.lowest(draw, self.k)
            dropped = torch.zeros_like(scores, dtype=torch.bool)
            dropped[positives.rows, positives.columns] = True
            dropped[kept.rows, kept.columns] = False
            scores, positives = scores.masked_fill(dropped, HIDDEN), kept
            k = torch.full_like(k, self.k)
        log_z = _LogSoftTopK.apply(scores, k.to(scores.dtype), self.steepness)
        return -(positives.weight * positives.of(log_z)).sum()


def soft_topk(scores: Tensor, k: int | Tensor, steepness: float = 2.0) -> Tensor:
    """Return z = sigmoid(a (s + t)) with t the unique root of sum z = k.

    Parameters
    ----------
    scores : Tensor of float, shape (B, m)
        Scores; entries at or below -1e30 count as absent.
    k : int or Tensor of shape (B,)
        Sum of every row of the result. A row with at most k present entries gives ones.
    steepness : float, default=2.0
        a; towards infinity z becomes the indicator of the k largest entries.

    Returns
    -------
    Tensor of float, shape (B, m)
        Values in [0, 1], differentiable with the Jacobian a (diag(v) - v v^T / sum v), v = z (1 -
        z).
    """
    wanted = torch.as_tensor(k, dtype=scores.dtype, device=scores.device).expand(len(scores))
    return _LogSoftTopK.apply(scores, wanted, steepness).exp()


class _LogSoftTopK(torch.autograd.Function):
    """log z of the soft top-k; its gradient needs z only, never the steps of the root search."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, k: Tensor, steepness: float) -> Tensor:
        shift = _root(scores, k.unsqueeze(1), steepness)
        log_z = torch.nn.functional.logsigmoid(steepness * (scores + shift))
        ctx.save_for_backward(log_z)
        ctx.steepness = steepness
        return log_z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (log_z,) = ctx.saved_tensors
        rest = -torch.expm1(log_z)
        u = upstream * ctx.steepness * rest
        v = log_z.exp() * rest
        total = v.sum(dim=1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny)
        return u - v * (u.sum(dim=1, keepdim=True) / total), None, None


def _root(scores: Tensor, k: Tensor, steepness: float) -> Tensor:
    """Return the shift of every row, shape (B, 1), by Newton steps kept inside a bracket."""
    present = scores > HIDDEN / 2
    count = present.sum(dim=1, keepdim=True)
    highest = scores.amax(dim=1, keepdim=True)
    lowest = scores.masked_fill(~present, math.inf).amin(dim=1, keepdim=True)
    # The sum is at most count * e^{a (highest + t)} and at least count * sigmoid(a (lowest + t)).
    low = -highest + torch.log(k / count) / steepness
    high = -lowest + torch.where(k < count, torch.logit(k / count), 0) / steepness
    shift = (low + high) / 2
    tolerance = 32 * torch.finfo(scores.dtype).eps * k
    z = torch.empty_like(scores)
    on_cpu = scores.device.type == "cpu"
    for step in range(_MAX_STEPS):
        torch.add(scores, shift, out=z).mul_(steepness).sigmoid_()
        total = z.sum(dim=1, keepdim=True)
        excess = total - k
        done = ((excess.abs() <= tolerance) | (k >= count)).all()
        if (on_cpu or step % _STEPS_PER_LOOK == 0) and bool(done):
            break
        low, high = torch.where(excess < 0, shift, low), torch.where(excess < 0, high, shift)
        slope = total - torch.linalg.vector_norm(z, dim=1, keepdim=True).square()
        newton = shift - excess / (steepness * slope)
        # The bounds included: a converged row sits on one of them and must not jump away.
        inside = (newton >= low) & (newton <= high)
        shift = torch.where(done, shift, torch.where(inside, newton, (low + high) / 2))
    # With at most k present entries all are in the top: far enough right that sigmoid gives 1.
    return torch.where(k < count, shift, 1000 / steepness - lowest)
