"""Contrastive likelihood of cosine scores."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor

from skxc.losses._triplet import hardest_negatives
from skxc.losses.base import Loss, Positives


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

    uses_temperature = False
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "c": [Interval(Real, 0, 1, closed="neither")],
        "d": [Interval(Real, 0, None, closed="neither")],
        "n_hard": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, *, c: float = 0.9, d: float = 1.5, n_hard: int = 1) -> None:
        self.c = c
        self.d = d
        self.n_hard = n_hard

    def _loss(self, scores: Tensor, positives: Positives) -> Tensor:
        pull = -math.log(self.c) + self.d * (1 - positives.of(scores))
        # A cosine may exceed 1 by rounding; any score above 1 is worth as much as 1.
        negatives = hardest_negatives(scores, positives, self.n_hard).clamp_max(1)
        push = -torch.log1p(-self.c * torch.exp(self.d * (negatives - 1))).sum(dim=1)
        count = positives.per_row[positives.rows]
        return (count * positives.weight * pull).sum() + (positives.row_weight * push).sum()
