"""Contrastive likelihood of cosine scores."""

from __future__ import annotations

import math
from numbers import Real
from typing import Annotated

import torch
from torch import Tensor

from skxc._params import Interval, PositiveFloat, PositiveInt, params
from skxc.losses._triplet import hardest_negatives
from skxc.losses.base import Loss, Positives


@params
class ProbContrastive(Loss):
    """Negative log-likelihood under ``p(relevant) = c e^{d (s - 1)}`` (SiameseXML, stage 1).

    A positive costs ``-log c + d (1 - s)``, a negative ``-log(1 - c e^{d (s - 1)})``; a row is the
    sum over its positives and its `n_hard` highest negatives. The value at the optimum is a
    positive constant. Weighted positives are scaled so that their weights average 1.

    Parameters
    ----------
    c : float, default=0.9
        Probability of relevance at cosine 1.
    d : float, default=1.5
        Decay of the log-probability with 1 - cosine.
    n_hard : int, default=1
        Negatives per row.

    References
    ----------
    Dahiya et al., "SiameseXML: Siamese Networks meet Extreme Classifiers with 100M Labels", ICML
    2021.
    """

    c: Annotated[float, Interval(Real, 0, 1, closed="neither")] = 0.9
    d: PositiveFloat = 1.5
    n_hard: PositiveInt = 1

    def _loss(self, scores: Tensor, positives: Positives) -> Tensor:
        pull = -math.log(self.c) + self.d * (1 - positives.of(scores))
        # A cosine may exceed 1 by rounding; any score above 1 is worth as much as 1.
        negatives = hardest_negatives(scores, positives, self.n_hard).clamp_max(1)
        push = -torch.log1p(-self.c * torch.exp(self.d * (negatives - 1))).sum(dim=1)
        count = positives.per_row[positives.rows]
        return (count * positives.weight * pull).sum() + (positives.row_weight * push).sum()
