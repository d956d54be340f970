"""Retrieval from training rows: the labels of near rows vote, and votes add to label scores.

    score(x, l) = x . v_l + weight * sum_j share_j y_jl             j: the nearest rows
    share_j     = row_weight_j exp(x . x_j / temperature) / total

Sources: the memory of training instances of RAE-XMC (arXiv 2502.10615) and the retrieval at
inference of ViXML (arXiv 2511.13189). Votes are added, not mixed under a softmax over labels, so
that the score of a label does not depend on which other labels exist.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc._params import NonNegativeFloat, Part, PositiveFloat, PositiveInt, params
from skxc.ranking._pairs import Ids, rank_pairs
from skxc.utils._compiled import compiled
from skxc.utils._sparse import TopK

Array = NDArray[Any]

ScorePairs = Callable[[Ids, Ids], NDArray[np.float32]]


@params
class NeighborVotes(Part):
    """Votes of the nearest training rows, which add to the scores of label vectors.

    Parameters
    ----------
    weight : float or "auto", default="auto"
        Weight of the votes. "auto" takes the best of a few weights by nDCG@5 on held-out rows, 0.4
        where there are none.
    n_neighbors : int, default=50
        Training rows that vote.
    temperature : float, default=0.15
        Temperature of the softmax over neighbours.

    References
    ----------
    RAE-XMC (arXiv 2502.10615); ViXML (arXiv 2511.13189).
    """

    weight: NonNegativeFloat | Literal["auto"] = "auto"
    n_neighbors: PositiveInt = 50
    temperature: PositiveFloat = 0.15


@dataclass(frozen=True)
class Votes:
    """Votes of a block of queries, one entry per (query, label), sorted by query and label.

    Attributes
    ----------
    rows, labels : ndarray of int64, shape (e,)
    values : ndarray of float32, shape (e,)
        Between 0 and 1.
    """

    rows: Ids
    labels: Ids
    values: NDArray[np.float32]


def neighbor_votes(
    neighbors: Ids,
    similarity: NDArray[np.float32],
    y: sp.csr_array,
    row_weight: NDArray[np.float32],
    temperature: float,
) -> Votes:
    """Return the share of the nearest rows that have each label.

    Parameters
    ----------
    neighbors : ndarray of int, shape (n, m)
        Training rows near each query, padded with -1.
    similarity : ndarray of float32, shape (n, m)
        Their inner products with the query; -inf where padded.
    y : csr_array of shape (n_train, L)
        Labels of the training rows.
    row_weight : ndarray of float32, shape (n_train,)
        Weights of the training rows.
    temperature : float
        Divides the similarities in the softmax over neighbours.

    Returns
    -------
    Votes
    """
    mass = _masses(neighbors, similarity, row_weight, temperature)
    rows, labels, values = _add_up(
        neighbors.astype(np.int64, copy=False), mass, neighbors >= 0, y.indptr, y.indices
    )
    return Votes(rows, labels, values)


def neighbor_shares(
    neighbors: Ids,
    similarity: NDArray[np.float32],
    row_weight: NDArray[np.float32],
    temperature: float,
) -> NDArray[np.float32]:
    """Return the share of each of the nearest rows in the votes, shape (n, m); see above."""
    mass = _masses(neighbors, similarity, row_weight, temperature)
    return mass / mass.sum(axis=1, keepdims=True)


def _masses(
    neighbors: Ids,
    similarity: NDArray[np.float32],
    row_weight: NDArray[np.float32],
    temperature: float,
) -> NDArray[np.float32]:
    """Return shares before they are divided by their sum, shape (n, m); 0 where padded."""
    with np.errstate(invalid="ignore"):  # rows without any neighbour
        above = similarity - similarity.max(axis=1, keepdims=True)
    above[neighbors < 0] = -np.inf
    return np.exp(above / np.float32(temperature)) * row_weight[neighbors]


@compiled
def _add_up(
    neighbors: Array, mass: Array, used: Array, indptr: Array, indices: Array
) -> tuple[Array, Array, Array]:
    """Return rows, labels and values of `Votes`."""
    n, m = neighbors.shape
    ends = np.zeros(n + 1, dtype=np.int64)
    for i in range(n):
        ends[i + 1] = ends[i]
        for j in range(m):
            if used[i, j]:
                ends[i + 1] += indptr[neighbors[i, j] + 1] - indptr[neighbors[i, j]]
    rows, labels = np.empty(ends[n], dtype=np.int64), np.empty(ends[n], dtype=np.int64)
    values = np.empty(ends[n], dtype=np.float32)
    longest = 0
    for i in range(n):
        longest = max(longest, ends[i + 1] - ends[i])
    # A hash table of a row's labels, twice as large as can be needed.
    bits = np.int64(np.ceil(np.log2(max(longest, 1)))) + 1
    size = 1 << bits
    slot_label = np.full(size, -1, dtype=np.int64)
    slot_value = np.zeros(size, dtype=np.float64)
    found = np.empty(longest, dtype=np.int64)
    n_pairs = 0
    for i in range(n):
        total = 0.0
        for j in range(m):
            if used[i, j]:
                total += mass[i, j]
        n_found = 0
        for j in range(m):
            if not used[i, j]:
                continue
            share = mass[i, j] / total
            for e in range(indptr[neighbors[i, j]], indptr[neighbors[i, j] + 1]):
                label = np.int64(indices[e])
                slot = (label * 0x9E3779B1) & (size - 1)
                while slot_label[slot] >= 0 and slot_label[slot] != label:
                    slot = (slot + 1) & (size - 1)
                if slot_label[slot] < 0:
                    slot_label[slot] = label
                    found[n_found] = label << bits | slot
                    n_found += 1
                slot_value[slot] += share
        mine = found[:n_found]
        mine.sort()
        for code in mine:
            slot = code & (size - 1)
            rows[n_pairs], labels[n_pairs] = i, code >> bits
            values[n_pairs] = slot_value[slot]
            n_pairs += 1
            slot_label[slot], slot_value[slot] = -1, 0.0
    return rows[:n_pairs], labels[:n_pairs], values[:n_pairs]


def add_votes(found: TopK, votes: Votes, weight: float, score_pairs: ScorePairs) -> TopK:
    """Return the best labels of every query by score plus weighted votes.

    Parameters
    ----------
    found : (ndarray of int (n, k), ndarray of float32 (n, k))
        The k best labels by score alone; no other label without votes can be better than these.
    votes : Votes
    weight : float
        Non-negative.
    score_pairs : callable
        ``score_pairs(rows, labels)`` gives the scores of voted labels that were not found.

    Returns
    -------
    indices, scores : ndarrays of shape (n, k)
        Best first, ties to the lower id, padded as `found`.
    """
    labels, scores = found
    place = _places(labels, votes.rows, votes.labels)
    addition = np.float32(weight) * votes.values
    known = place >= 0
    new = ~known
    scores = scores.copy()
    scores[votes.rows[known], place[known]] += addition[known]
    # Which labels are new, and can be better than the k-th best of the others.
    rows, voted, addition = votes.rows[new], votes.labels[new], addition[new]
    values = score_pairs(rows, voted) + addition
    lowest = np.where(labels[:, -1] >= 0, scores.min(axis=1), -np.inf)
    wins = values >= lowest[rows]
    row, column = np.nonzero(labels >= 0)
    return rank_pairs(
        np.concatenate([row, rows[wins]]),
        np.concatenate([labels[row, column], voted[wins]]),
        np.concatenate([scores[row, column], values[wins]]),
        shape=labels.shape,
    )


@compiled
def _places(lists: Array, rows: Array, labels: Array) -> Array:
    """Return where the label of each pair, sorted by row, stands in the row's list; -1 if not."""
    places = np.full(len(rows), -1, dtype=np.int64)
    k = lists.shape[1]
    bits = np.int64(np.ceil(np.log2(max(k, 1)))) + 1
    size = 1 << bits
    table = np.full(size, -1, dtype=np.int64)
    filled = -1
    for pair in range(len(rows)):
        row = rows[pair]
        if row != filled:
            table[:] = -1
            for place in range(k):
                if lists[row, place] >= 0:
                    slot = (np.int64(lists[row, place]) * 0x9E3779B1) & (size - 1)
                    while table[slot] >= 0:
                        slot = (slot + 1) & (size - 1)
                    table[slot] = place
            filled = row
        slot = (labels[pair] * 0x9E3779B1) & (size - 1)
        while table[slot] >= 0:
            if lists[row, table[slot]] == labels[pair]:
                places[pair] = table[slot]
                break
            slot = (slot + 1) & (size - 1)
    return places
