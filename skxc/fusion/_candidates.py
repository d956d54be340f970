"""The (row, label) pairs that any of several models retrieved, with what each says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skxc.utils._compiled import compiled
from skxc.utils._sparse import TopK

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Candidates:
    """The union of the top-k lists of M models for n rows, sorted by row and label.

    Attributes
    ----------
    n_rows : int
    rows, labels : ndarray of int64, shape (e,)
    scores : ndarray of float64, shape (e, M)
        The score of each model; its floor of the row, the smallest score in its list, for a label
        that it did not retrieve.
    ranks : ndarray of float64, shape (e, M)
        0 for the best label of a model; the length of its list for a label that is not in it.
    found : ndarray of bool, shape (e, M)
        Whether the model retrieved the label.
    """

    n_rows: int
    rows: NDArray[np.integer]
    labels: NDArray[np.integer]
    scores: NDArray[np.float64]
    ranks: NDArray[np.float64]
    found: NDArray[np.bool_]

    def take(self, kept: NDArray[np.bool_]) -> Candidates:
        """Return the pairs of a mask; the rows keep their numbers."""
        return Candidates(
            self.n_rows,
            self.rows[kept],
            self.labels[kept],
            self.scores[kept],
            self.ranks[kept],
            self.found[kept],
        )

    def unseen(self, label_frequency: NDArray) -> NDArray[np.bool_]:
        """Return which labels have no training row; none where all frequencies are unknown (0)."""
        return (label_frequency[self.labels] == 0) & label_frequency.any()

    def best(self) -> NDArray[np.float64]:
        """Return the largest score of every row by each model, shape (n_rows, M)."""
        first = np.flatnonzero(np.diff(self.rows, prepend=-1))
        top = np.zeros((self.n_rows, self.scores.shape[1]))
        if len(first):
            top[self.rows[first]] = np.maximum.reduceat(self.scores, first, axis=0)
        return top

    def features(
        self, label_frequency: NDArray, best: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Return what trees split on.

        Parameters
        ----------
        label_frequency : ndarray of shape (n_labels,)
            Training rows of every label; the inverse propensity is a function of it.
        best : ndarray of float64, shape (n_rows, M), default=None
            What scores are compared with; None: the largest ones of these candidates.

        Returns
        -------
        ndarray of float64, shape (e, 4 M + 2)
            Of each model: score, distance to its best score of the row, ln(1 + rank), whether it
            retrieved the label; then the number of models that did, and ln(1 + frequency).
        """
        n_found = self.found.sum(axis=1, keepdims=True)
        frequency = np.log1p(label_frequency[self.labels].astype(np.float64))[:, None]
        below = self.scores - (self.best() if best is None else best)[self.rows]
        return np.hstack([self.scores, below, np.log1p(self.ranks), self.found, n_found, frequency])


def n_features(n_models: int) -> int:
    """Return how many features pairs of that many models have."""
    return 4 * n_models + 2


def collect_candidates(
    lists: list[TopK], n_labels: int, floors: NDArray[np.float64] | None = None
) -> Candidates:
    """Return the union of top-k lists.

    Parameters
    ----------
    lists : list of (ndarray of int (n, k), ndarray of float32 (n, k))
        Of each model, best first, padded with -1.
    n_labels : int
    floors : ndarray of float64, shape (M,), optional
        Scores for rows where a model retrieved nothing at all; by default its smallest score
        anywhere, or 0.

    Returns
    -------
    Candidates
    """
    floors = lowest_scores(lists) if floors is None else floors
    joined = np.hstack([found for found, _ in lists]).astype(np.int64, copy=False)
    all_scores = np.hstack([scores for _, scores in lists]).astype(np.float32, copy=False)
    ends = np.cumsum([found.shape[1] for found, _ in lists])
    n_pairs, *arrays = _join(joined, all_scores, ends, np.asarray(floors, dtype=np.float64))
    return Candidates(len(joined), *(array[:n_pairs] for array in arrays))


@compiled
def _join(
    joined: Array, all_scores: Array, ends: Array, floors: Array
) -> tuple[int, Array, Array, Array, Array, Array]:
    """Return the number of candidates, and arrays that begin with the fields of `Candidates`."""
    n, width, n_models = len(joined), joined.shape[1], len(ends)
    rows, labels = np.empty(n * width, dtype=np.int64), np.empty(n * width, dtype=np.int64)
    scores, ranks = np.empty((n * width, n_models)), np.empty((n * width, n_models))
    found = np.zeros((n * width, n_models), dtype=np.bool_)
    lowest, lengths = np.empty(n_models), np.empty(n_models)
    keys = np.empty(width, dtype=np.int64)
    at = -1
    for row in range(n):
        n_keys = first = 0
        for model in range(n_models):
            lowest[model], lengths[model] = np.inf, 0
            for column in range(first, ends[model]):
                if joined[row, column] >= 0:
                    keys[n_keys] = joined[row, column] << 32 | column
                    n_keys += 1
                    lengths[model] += 1
                    lowest[model] = min(lowest[model], np.float64(all_scores[row, column]))
            if lengths[model] == 0 or lowest[model] == np.inf:
                lowest[model] = floors[model]
            first = ends[model]
        mine = keys[:n_keys]
        mine.sort()
        before = -1
        for key in mine:
            label, column = key >> 32, key & 0xFFFFFFFF
            if label != before:
                at += 1
                rows[at], labels[at] = row, label
                scores[at], ranks[at] = lowest, lengths
                before = label
            model, first = 0, 0
            while column >= ends[model]:
                first = ends[model]
                model += 1
            scores[at, model], ranks[at, model] = all_scores[row, column], column - first
            found[at, model] = True
    return at + 1, rows, labels, scores, ranks, found


def lowest_scores(lists: list[TopK]) -> NDArray[np.float64]:
    """Return the smallest score of each model, 0 where it retrieved nothing."""
    found = [scores[labels >= 0] for labels, scores in lists]
    return np.array([values.min() if values.size else 0.0 for values in found], dtype=np.float64)
