"""Batches of similar rows."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from skxc._params import PositiveInt, params
from skxc.batching.base import Batching, Rows
from skxc.clustering import balanced_kmeans

_NGAME_EPOCHS = 300
_NGAME_GROWTH = (10, 20, 25, 50, 75, 100, 125, 150, 200)


def growth_epochs(n_epochs: int) -> tuple[int, ...]:
    """Return NGAME's curriculum (published for 300 epochs) stretched to another number of epochs.

    Parameters
    ----------
    n_epochs : int
        Epochs of the training.

    Returns
    -------
    tuple of int
        Epochs at which the cluster size doubles, rounded up.

    Examples
    --------
    >>> growth_epochs(300)
    (10, 20, 25, 50, 75, 100, 125, 150, 200)
    >>> growth_epochs(30)
    (1, 2, 3, 5, 8, 10, 13, 15, 20)
    """
    return tuple(math.ceil(epoch * n_epochs / _NGAME_EPOCHS) for epoch in _NGAME_GROWTH)


@params
class ClusteredBatches(Batching):
    """Batches of whole clusters of similar rows, whose labels are hard negatives to each other.

    A batch holds as many whole clusters as fit.

    Parameters
    ----------
    refresh_every : int, default=5
        Epochs between clusterings; the first one happens before this epoch.
    growth : tuple of int or None, default=(10, 20, 25, 50, 75, 100, 125, 150, 200)
        NGAME's curriculum: a cluster is one row at first, and its size doubles at each of these
        epochs (seen at the next clustering), up to `batch_size`. None is UniDEC's variant: from the
        first clustering on every cluster is a batch, of `batch_size` to twice as many rows.

    Attributes
    ----------
    leaf_ : ndarray of int64, shape (n,)
        Cluster of every row. With clusters of one row the batches are those of `UniformBatches`.

    References
    ----------
    Dahiya et al., "NGAME: Negative Mining-aware Mini-batching for Extreme Classification", WSDM
    2023; Kharbanda et al., "UniDEC", WWW 2025.
    """

    refresh_every: PositiveInt = 5
    growth: tuple[int, ...] | None = _NGAME_GROWTH

    def __post_init__(self) -> None:
        super().__post_init__()
        self.leaf_ = np.arange(self.n, dtype=np.int64)

    def cluster_size(self, epoch: int) -> int:
        """Return the largest cluster that a clustering at this epoch makes; 1 means no clusters."""
        if self.growth is not None:
            return min(2 ** sum(epoch >= step for step in self.growth), self.batch_size)
        if epoch < self.refresh_every:
            return 1
        # Depth floor(log2(n / batch_size)): the last at which no leaf is smaller than a batch.
        depth = max(1, self.n // self.batch_size).bit_length() - 1
        return -(-self.n >> depth)

    def needs_refresh(self, epoch: int) -> bool:
        """Return whether clusters are due: a positive multiple of `refresh_every` with clusters."""
        return epoch > 0 and epoch % self.refresh_every == 0 and self.cluster_size(epoch) > 1

    def refresh(self, query_vectors: NDArray, epoch: int, rng: np.random.Generator) -> None:
        """Cluster all rows by their current vectors, (n, d), at the size due at this epoch."""
        self.leaf_ = balanced_kmeans(query_vectors, max_leaf_size=self.cluster_size(epoch), rng=rng)

    def batches(self, epoch: int, rng: np.random.Generator) -> Iterator[Rows]:
        """Yield the batches of an epoch: clusters in random order (see `Batching.batches`)."""
        sizes = np.bincount(self.leaf_)
        order = rng.permutation(len(sizes))
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        rows = np.argsort(rank[self.leaf_], kind="stable")
        per_batch = max(1, self.batch_size // int(sizes.max(initial=1)))
        ends = np.append(np.cumsum(sizes[order])[per_batch - 1 : -1 : per_batch], self.n)
        start = 0
        for end in ends[ends > 0]:
            yield rows[start:end]
            start = end

    def get_state(self) -> dict[str, NDArray]:
        """Return {"leaf": int64 array of shape (n,)}."""
        return {"leaf": self.leaf_}

    def set_state(self, state: dict[str, NDArray]) -> None:
        """Take up a state returned by `get_state`."""
        self.leaf_ = state["leaf"]
