"""Batches in random order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from skxc._params import params
from skxc.batching.base import Batching, Rows


@params
class UniformBatches(Batching):
    """Random batches: the rows are shuffled and cut; only the last batch may be smaller."""

    def batches(self, epoch: int, rng: np.random.Generator) -> Iterator[Rows]:
        """Yield the batches of an epoch (see `Batching.batches`)."""
        order = rng.permutation(self.n)
        for start in range(0, self.n, self.batch_size):
            yield order[start : start + self.batch_size]
