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
from typing import Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc._params import NonNegativeFloat, Part, PositiveFloat, PositiveInt, params
from skxc.ranking._pairs import Ids, rank_pairs
from skxc.utils._sparse import TopK

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
    used = neighbors >= 0
    rows, trained = np.nonzero(used)[0], neighbors[used]
    above = similarity[used] - similarity.max(axis=1)[rows]
    mass = np.exp(above / np.float32(temperature)) * row_weight[trained]
    share = mass / np.bincount(rows, weights=mass, minlength=len(neighbors))[rows]
    counts = y.indptr[trained + 1] - y.indptr[trained]
    owner = np.repeat(np.arange(len(trained)), counts)
    first = np.cumsum(counts) - counts
    entries = np.arange(len(owner)) - first[owner] + y.indptr[trained][owner]
    keys = rows[owner].astype(np.int64) * y.shape[1] + y.indices[entries]
    distinct, place = np.unique(keys, return_inverse=True)
    values = np.bincount(place, weights=share[owner], minlength=len(distinct))
    rows, labels = np.divmod(distinct, y.shape[1])
    return Votes(rows, labels, values.astype(np.float32))


def add_votes(
    found: TopK, votes: Votes, weight: float, score_pairs: ScorePairs, n_labels: int
) -> TopK:
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
    n_labels : int

    Returns
    -------
    indices, scores : ndarrays of shape (n, k)
        Best first, ties to the lower id, padded as `found`.
    """
    labels, scores = found
    row, place = np.nonzero(labels >= 0)
    keys = row * n_labels + labels[row, place]
    values = scores[row, place]
    order = np.argsort(keys)
    keys, values = keys[order], values[order]
    vote_keys = votes.rows * n_labels + votes.labels
    position = np.searchsorted(keys, vote_keys)
    known = np.append(keys, -1)[position] == vote_keys
    addition = np.float32(weight) * votes.values
    values[position[known]] += addition[known]
    extra = score_pairs(votes.rows[~known], votes.labels[~known]) + addition[~known]
    pairs = np.divmod(np.concatenate([keys, vote_keys[~known]]), n_labels)
    return rank_pairs(*pairs, np.concatenate([values, extra]), shape=labels.shape)
