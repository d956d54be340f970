"""What a source of negatives is: it chooses the labels that a batch is scored against."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc._params import Parameterized, PositiveInt, params
from skxc.negatives._pairs import Ids

# search(query_vectors (n, d), label_vectors (L, d), k) -> (ids (n, k) padded with -1, scores (n,
# k))
Search = Callable[[NDArray, NDArray, int], tuple[NDArray[np.integer], NDArray[np.floating]]]


@params
class Negatives(Parameterized, ABC):
    """Chooses the pool of labels of a batch.

    Every pool label that is no positive of a row is a negative of that row, so a pool is all there
    is to choose. Parameters are hyper-parameters only (`clone` works); `prepare` gives the training
    labels.

    Parameters
    ----------
    n_positives : int or None, default=None
        Positives of a row, drawn at random, that enter the pool at each step; None: all. Which
        pool labels count as positives does not depend on it.
    refresh_every : int, default=5
        Epochs between two minings, or two clusterings of the rows; the first ones happen before
        the epoch of this number.
    """

    n_positives: PositiveInt | None = None
    refresh_every: PositiveInt = 5

    @property
    def clustered(self) -> bool:
        """Whether batches should be built from clusters of similar queries.

        This makes the other queries' positives hard negatives.
        """
        return False

    def prepare(self, y: sp.csr_array, excluded_pairs: sp.csr_array | None = None) -> None:
        """Remember the training labels; call it once before the first pool.

        Parameters
        ----------
        y : csr_array of shape (n_samples, n_labels)
            Training labels with sorted indices.
        excluded_pairs : csr_array of shape (n_samples, n_labels), default=None
            Pairs that are no labels but must not be drawn as negatives either.

        Raises
        ------
        ValueError
            If a parameter is out of range.
        """
        self._validate_params()
        self._y = y

    @abstractmethod
    def pool(self, rows: Ids, positives: Ids, rng: np.random.Generator) -> Ids:
        """Return the labels that a batch is scored against.

        Parameters
        ----------
        rows : ndarray of int, shape (B,)
            Rows of the batch.
        positives : ndarray of int, shape (c,)
            Sampled positives of these rows, repeated when several rows drew them.
        rng : Generator
            Source of the draws.

        Returns
        -------
        ndarray of int64, shape (m,)
            Label ids, sorted and unique.
        """

    def needs_refresh(self, epoch: int) -> bool:
        """Return whether `refresh` is due before this epoch (the first epoch is 0)."""
        return False

    def refresh(self, query_vectors: NDArray, label_vectors: NDArray, search: Search) -> None:
        """Mine again from the current vectors; nothing to do for most sources.

        Parameters
        ----------
        query_vectors : ndarray of shape (n_samples, d)
            Vectors of all training rows.
        label_vectors : ndarray of shape (n_labels, d)
            Vectors of all labels.
        search : callable
            ``search(query_vectors, label_vectors, k)`` returns (ids, scores), best first, padded
            with -1.
        """

    def get_state(self) -> dict[str, NDArray]:
        """Return what has been mined, as arrays; with the parameters it allows to go on exactly."""
        return {}

    def set_state(self, state: dict[str, NDArray]) -> None:
        """Take up a state returned by `get_state`."""


def union(groups: Sequence[Ids]) -> Ids:
    """Return the distinct labels of all groups, sorted."""
    return _counted(np.concatenate(groups))[0]


def _counted(labels: Ids) -> tuple[Ids, Ids]:
    """Return the distinct labels, sorted, and how often each occurs; sorting only rare ones."""
    if len(labels) == 0 or labels.max() > 64 * len(labels):
        ids, counts = np.unique(labels, return_counts=True)
        return ids.astype(np.int64, copy=False), counts
    counts = np.bincount(labels)
    ids = np.flatnonzero(counts)
    return ids, counts[ids]


def fill_pool(groups: Sequence[Ids], size: int, rng: np.random.Generator) -> Ids:
    """Return at most `size` distinct labels, group after group, in a group the most frequent first.

    A later group enters only while more than min(100, size // 10) places are free: this is UniDEC's
    pool (steps 1-3) for the groups sampled positives, mined negatives, all positives.

    Parameters
    ----------
    groups : sequence of ndarray of int64
        Labels; one that many rows gave is repeated.
    size : int
        Capacity.
    rng : Generator
        Decides ties.

    Returns
    -------
    ndarray of int64, sorted
    """
    pool = np.empty(0, dtype=np.int64)
    for number, labels in enumerate(groups):
        room = size - len(pool)
        if number > 0 and room <= min(100, size // 10):
            break
        ids, counts = _counted(labels)
        new = ~np.isin(ids, pool)
        ids, counts = ids[new], counts[new]
        if len(ids) > room:
            order = np.lexsort((rng.random(len(ids)), -counts))
            ids = ids[order[:room]]
        pool = np.concatenate([pool, ids])
    return np.sort(pool)
