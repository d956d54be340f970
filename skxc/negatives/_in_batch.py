"""Negatives from the batch itself."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skxc.negatives._pairs import Ids, row_entries
from skxc.negatives.base import Negatives, fill_pool, union


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
    keep : {"frequent", "random"}, default="frequent"
        Which labels stay when a pool is full: those that most rows gave, or any.
    fill : bool, default=True
        Whether unsampled positives fill free places.

    References
    ----------
    Dahiya et al., "NGAME: Negative Mining-aware Mini-batching for Extreme Classification", WSDM
    2023.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "clustered": ["boolean"],
        "pool_size": [Interval(Integral, 1, None, closed="left"), None],
        "keep": [StrOptions({"frequent", "random"})],
        "fill": ["boolean"],
    }

    def __init__(
        self,
        *,
        clustered: bool = False,
        pool_size: int | None = None,
        keep: str = "frequent",
        fill: bool = True,
    ) -> None:
        self.clustered = clustered
        self.pool_size = pool_size
        self.keep = keep
        self.fill = fill

    def pool(self, rows: Ids, positives: Ids, rng: np.random.Generator) -> Ids:
        """Return the distinct sampled positives, within the capacity (see `Negatives.pool`)."""
        if self.pool_size is None:
            return union([positives])
        groups = [positives, row_entries(self._y, rows)[1]] if self.fill else [positives]
        return fill_pool(groups, self.pool_size, rng, self.keep)
