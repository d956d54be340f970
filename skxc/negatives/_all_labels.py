"""Every label in every pool."""

from __future__ import annotations

import numpy as np

from skxc._params import params
from skxc.negatives._pairs import Ids
from skxc.negatives.base import Negatives


@params
class AllLabels(Negatives):
    """The pool is the whole label set, so the loss is exact (DEXML).

    References
    ----------
    Gupta et al., "Dual-Encoders for Extreme Multi-Label Classification", ICLR 2024.
    """

    def pool(self, rows: Ids, positives: Ids, rng: np.random.Generator) -> Ids:
        """Return all label ids (see `Negatives.pool`)."""
        return np.arange(self._y.shape[1], dtype=np.int64)
