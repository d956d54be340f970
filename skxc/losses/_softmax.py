"""The softmax family: decoupled, coupled and balanced, in few passes over the score matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from skxc._params import params
from skxc.losses.base import HIDDEN, LogitLoss, Positives


@params
class DecoupledSoftmax(LogitLoss):
    """Softmax in which the positives of a row do not compete with each other (DEXML).

    For a row with positives P, n = len(P):
    ``-(1/n) sum_{p in P} [ s_p - log( e^{s_p} + sum_{l not in P} e^{s_l} ) ]``.
    It tends to 0 once every positive is far above the negatives; the positives need not be equal,
    and the gradient never pushes a positive down.

    References
    ----------
    Gupta et al., "Dual-Encoders for Extreme Multi-Label Classification", ICLR 2024, decoupled
    softmax.
    """

    def _loss(self, scores: Tensor, positives: Positives) -> Tensor:
        offset = torch.full_like(positives.share, HIDDEN)
        return _CellwiseSoftmax.apply(scores, positives, offset, True)


@params
class Softmax(LogitLoss):
    """Coupled softmax: every positive competes with all pool labels, the other positives included.

    ``-(1/n) sum_{p in P} [ s_p - log sum_l e^{s_l} ]``, also known as SupCon. Its optimum is log n,
    with equal positives; a positive holding more than its share 1/n of the mass is pushed *down*.

    References
    ----------
    Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, equation 2.
    """

    def _loss(self, scores: Tensor, positives: Positives) -> Tensor:
        return _CellwiseSoftmax.apply(scores, positives, torch.zeros_like(positives.share), False)


@params
class BalancedSoftmax(LogitLoss):
    """Coupled softmax in which the positives count as one label in the denominator.

    ``-(1/n) sum_{p in P} [ s_p - log( sum_{l not in P} e^{s_l} + (1/n) sum_{q in P} e^{s_q} ) ]``.
    It tends to 0 when the positives dominate, but only if they are equal. Weighted positives enter
    the denominator with their share in place of 1/n.

    References
    ----------
    Kharbanda et al., "UniDEC: Unified Dual Encoder and Classifier Training for Extreme Multi-Label
    Classification", WWW 2025.
    """

    def _loss(self, scores: Tensor, positives: Positives) -> Tensor:
        return _CellwiseSoftmax.apply(scores, positives, positives.share.log(), False)


class _CellwiseSoftmax(torch.autograd.Function):
    """Sum over the positive cells of weight * (log Z - s), Z = sum_l e^{s_l + offset of positives}.

    Decoupled: the offset hides the positives, Z is the mass of the negatives and log Z - s becomes
    log(1 + e^{log Z - s}). The gradient is written in the forward pass into the one (B, m) buffer
    that held the exponentials, because memory traffic, not arithmetic, decides the time of a step.
    """

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, positives: Positives, offset: Tensor, decoupled: bool
    ) -> Tensor:
        cells = (positives.rows, positives.columns)
        own = positives.of(scores)
        buffer = scores.clone(memory_format=torch.contiguous_format)
        buffer[cells] = own + offset
        # The two floors keep a row of -inf only from giving NaN.
        top = buffer.amax(dim=1, keepdim=True).clamp_min_(HIDDEN)
        total = buffer.sub_(top).exp_().sum(dim=1).clamp_min_(torch.finfo(scores.dtype).tiny)
        gap = (top.squeeze(1) + total.log())[positives.rows] - own
        force = positives.weight
        value = torch.logaddexp(gap, torch.zeros_like(gap)) if decoupled else gap
        loss = (force * value).sum()
        if decoupled:
            force = force * torch.sigmoid(gap)
        row_force = torch.zeros_like(total).index_add_(0, positives.rows, force)
        buffer.mul_((row_force / total).unsqueeze(1))
        buffer[cells] -= force
        ctx.save_for_backward(buffer)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        # The usual upstream gradient is exactly 1, and a pass over the matrix is saved; to see it
        # on a device would cost more.
        if upstream.device.type == "cpu" and upstream.item() == 1:
            return gradient, None, None, None
        return gradient * upstream, None, None, None
