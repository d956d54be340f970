"""Negatives from the batch itself."""

from __future__ import annotations

import numpy as np

from skxc._params import PositiveInt, params
from skxc.negatives._pairs import Ids, row_entries
from skxc.negatives.base import Negatives, fill_pool, union


@params
class InBatch(Negatives):
    """The pool is the union of the sampled positives of the batch.

    Parameters
    ----------
    clustered : bool, default=False
        Ask for batches of similar queries, whose positives are hard negatives for each other
        (NGAME).
    pool_size : int or None, default=None
        Largest pool. When set, the most frequent labels stay if there are more, and unsampled
        positives of the batch fill free places (UniDEC, steps 1 and 3). None: no limit and no
        filling.

    References
    ----------
    Dahiya et al., "NGAME: Negative Mining-aware Mini-batching for Extreme Classification", WSDM
    2023.
    """

    clustered: bool = False
    pool_size: PositiveInt | None = None

    def pool(self, rows: Ids, positives: Ids, rng: np.random.Generator) -> Ids:
        """Return the distinct sampled positives, within the capacity (see `Negatives.pool`)."""
        if self.pool_size is None:
            return union([positives])
        return fill_pool([positives, row_entries(self._y, rows)[1]], self.pool_size, rng)


def clustered() -> InBatch:
    """Return the source of the name "clustered"."""
    return InBatch(clustered=True)
