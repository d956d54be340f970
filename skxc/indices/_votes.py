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

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.utils._sparse import TopK

# Pairs whose vectors are gathered at once.
BLOCK_PAIRS = 4096

Ids = NDArray[np.integer]
ScorePairs = Callable[[Ids, Ids], NDArray[np.float32]]


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


def union_of_lists(lists: list[NDArray[np.integer]], n_labels: int) -> tuple[Ids, Ids]:
    """Return the distinct (row, label) pairs of padded lists, sorted by row and label."""
    keys = []
    for labels in lists:
        row, place = np.nonzero(labels >= 0)
        keys.append(row * n_labels + labels[row, place])
    return np.divmod(np.unique(np.concatenate(keys)), n_labels)


def inner_products(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], rows: Ids, labels: Ids
) -> NDArray[np.float32]:
    """Return the inner product of each (row, label) pair, bit for bit that of an exact index."""
    products = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), BLOCK_PAIRS):
        block = slice(start, start + BLOCK_PAIRS)
        products[block] = np.einsum("ed,ed->e", vectors[labels[block]], queries[rows[block]])
    return products


def rank_pairs(
    rows: Ids, labels: Ids, values: NDArray[np.float32], *, shape: tuple[int, int]
) -> TopK:
    """Return padded lists of the best labels of each of n rows, for distinct pairs in any order."""
    order = np.lexsort((labels, -values, rows))
    rows, labels, values = rows[order], labels[order], values[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    keep = rank < shape[1]
    indices = np.full(shape, -1, dtype=np.int64)
    scores = np.full(shape, -np.inf, dtype=np.float32)
    indices[rows[keep], rank[keep]] = labels[keep]
    scores[rows[keep], rank[keep]] = values[keep]
    return indices, scores
