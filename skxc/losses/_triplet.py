"""Margin loss against the hardest negatives of the pool."""

from __future__ import annotations

import torch
from torch import Tensor

from skxc._params import NonNegativeFloat, PositiveFloat, PositiveInt, params
from skxc.losses.base import HIDDEN, Loss, Positives


@params
class Triplet(Loss):
    """Hinge of every positive against the hardest negatives, weighted by a softmax (NGAME).

    For a positive p and the `n_hard` highest negatives j of its row: ``h_j = max(0, s_j - s_p +
    margin)``, ``w_j`` = softmax of ``s_j / temperature`` over the negatives with ``h_j > 0``; the
    loss of the positive is ``sum_j w_j h_j``, of a row the mean over its positives. Satisfied
    negatives have no weight.

    Parameters
    ----------
    margin : float, default=0.3
        Wanted distance, in cosine.
    n_hard : int, default=10
        Negatives per row.
    temperature : float, default=0.1
        Divides the cosines in the weights of the violators, nothing else.
    n_positives : int or None, default=None
        Number of lowest-scoring positives of a row that take part; None takes all, whose mean is
        the expectation of NGAME's stage 1, which draws one. ``Triplet(margin=0.2, n_hard=5,
        n_positives=3)`` is its stage 2.

    References
    ----------
    Dahiya et al., "NGAME: Negative Mining-aware Mini-batching for Extreme Classification", WSDM
    2023. Its code leaves probability mass on satisfied negatives; here they have none.
    """

    margin: NonNegativeFloat = 0.3
    n_hard: PositiveInt = 10
    temperature: PositiveFloat = 0.1
    n_positives: PositiveInt | None = None

    def _loss(self, scores: Tensor, positives: Positives) -> Tensor:
        hardest = hardest_negatives(scores, positives, self.n_hard)
        if self.n_positives is not None:
            positives = positives.lowest(positives.of(scores).detach(), self.n_positives)
        negatives = hardest[positives.rows]
        hinge = torch.relu(negatives - positives.of(scores).unsqueeze(1) + self.margin)
        active = hinge > 0
        weight = torch.softmax((negatives / self.temperature).masked_fill(~active, HIDDEN), dim=1)
        return (positives.weight * (weight * hinge).sum(dim=1)).sum()


def hardest_negatives(scores: Tensor, positives: Positives, n: int) -> Tensor:
    """Return the `n` highest negative scores of every row; `HIDDEN` where a row has fewer."""
    masked = scores.detach().clone()
    masked[positives.rows, positives.columns] = HIDDEN
    values, columns = masked.topk(min(n, scores.shape[1]), dim=1)
    return scores.gather(1, columns).masked_fill(values <= HIDDEN / 2, HIDDEN)
