"""Two-level search in compiled loops: from a beam of clusters to the best labels of every row.

    path(x, l) = max over beam clusters c that store l of  score_c(x) * weight_cl

Only the edges of the beam are touched, whatever the number of labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.utils._compiled import compiled

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Shortlists:
    """The labels with the best paths of n rows, and the edges that lead to them.

    Attributes
    ----------
    labels : ndarray of int32, shape (n, size)
        In no particular order, none twice in a row; -1 where a row runs out.
    codes : ndarray of int64, shape (n, size)
        ``place in the beam * n_edges + edge`` of the best path.
    relevant : ndarray of bool, shape (n, size)
        Whether the label is one of the row's.
    reached : ndarray of int64, shape (y.nnz,)
        The code of every relevant label, in the shortlist or not; -1 if no beam cluster stores it.
    """

    labels: NDArray[np.int32]
    codes: NDArray[np.int64]
    relevant: NDArray[np.bool_]
    reached: NDArray[np.int64]


def follow_beams(
    clusters: NDArray[np.integer],
    scores: NDArray[np.float32],
    edge_labels: NDArray[np.int32],
    edge_weights: NDArray[np.float32],
    n_labels: int,
    size: int,
    y: sp.csr_array | None = None,
    seed: int | None = None,
) -> Shortlists:
    """Return the labels with the best paths from the clusters of every row's beam.

    Parameters
    ----------
    clusters : ndarray of int, shape (n, b)
        Rows of the edge arrays, each at most once in a beam; -1 for none.
    scores : ndarray of float32, shape (n, b)
        Their scores.
    edge_labels : ndarray of int32, shape (C, n_edges)
        Labels of the edges; -1 behind the last one.
    edge_weights : ndarray of float32, shape (C, n_edges)
        Non-negative.
    n_labels : int
    size : int
        Largest number of labels per row.
    y : csr_array of shape (n, n_labels), default=None
        Relevant labels, where these are known.
    seed : int or None, default=None
        None: the labels with the best paths, ties at the cut to the lower label. A number: the
        relevant labels, and a sample of the others without replacement, in proportion to their
        paths.

    Returns
    -------
    Shortlists
    """
    indptr, positives = np.zeros(len(clusters) + 1, np.int64), np.zeros(0, np.int64)
    if y is not None:
        indptr, positives = y.indptr.astype(np.int64), y.indices.astype(np.int64)
    found = _shortlists(
        clusters.astype(np.int64), np.ascontiguousarray(scores), edge_labels, edge_weights,
        n_labels, min(size, n_labels), indptr, positives, -1 if seed is None else seed,
    )  # fmt: skip
    return Shortlists(*found)


def heaviest_clusters(
    edge_labels: NDArray[np.int32], edge_weights: NDArray[np.float32], n_labels: int
) -> NDArray[np.int64]:
    """Return the cluster with the heaviest edge of every label, -1 for labels without any."""
    cluster, edge = np.nonzero(edge_labels >= 0)
    label, weight = edge_labels[cluster, edge], edge_weights[cluster, edge]
    order = np.lexsort((-cluster, weight))  # the last one wins
    heaviest = np.full(n_labels, -1, dtype=np.int64)
    heaviest[label[order]] = cluster[order]
    return heaviest


# Quantiles of the exponential distribution: a look-up is quicker than a logarithm.
N_QUANTILES = 4096
_EXPONENTIAL = -np.log((np.arange(N_QUANTILES, dtype=np.float32) + 0.5) / N_QUANTILES)


@compiled
def _follow_edges(
    clusters: Array,
    scores: Array,
    edge_labels: Array,
    edge_weights: Array,
    best: Array,
    code: Array,
    found: Array,
) -> int:
    """Follow the edges of one row's beam: best path and its edge per label; return how many."""
    n, n_edges = 0, edge_labels.shape[1]
    for place in range(len(clusters)):
        cluster, score = clusters[place], scores[place]
        if cluster < 0:
            continue
        for edge in range(n_edges):
            label = edge_labels[cluster, edge]
            if label < 0:
                break
            path = score * edge_weights[cluster, edge]
            if code[label] < 0:
                found[n] = label
                n += 1
            if code[label] < 0 or path > best[label]:
                best[label] = path
                code[label] = place * n_edges + edge
    return n


@compiled
def _largest(found: Array, best: Array, size: int, out: Array) -> None:
    """Write the `size` labels with the best paths; ties at the cut go to the lower ids."""
    if len(found) <= size:
        out[: len(found)] = found
        return
    values = np.empty(len(found), dtype=np.float32)
    for i in range(len(found)):
        values[i] = best[found[i]]
    cut = np.partition(values, len(values) - size)[len(values) - size]
    n = 0
    for i in range(len(found)):
        if values[i] > cut:
            out[n] = found[i]
            n += 1
    tied = np.sort(found[values == cut])
    for i in range(size - n):
        out[n + i] = tied[i]


@compiled
def _perturb(found: Array, best: Array, is_positive: Array, state: np.uint64) -> np.uint64:
    """Divide paths by exponential noise, whose largest quotients are a sample; keep positives."""
    for label in found:
        # One step of splitmix64.
        state += np.uint64(0x9E3779B97F4A7C15)
        mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        noise = _EXPONENTIAL[(mixed ^ (mixed >> np.uint64(31))) & np.uint64(N_QUANTILES - 1)]
        best[label] = np.inf if is_positive[label] else best[label] / noise
    return state


@compiled
def _shortlists(
    clusters: Array,
    scores: Array,
    edge_labels: Array,
    edge_weights: Array,
    n_labels: int,
    size: int,
    indptr: Array,
    positives: Array,
    seed: int,
) -> tuple[Array, Array, Array, Array]:
    """Compute the fields of `Shortlists`; see `follow_beams`."""
    n = len(clusters)
    labels = np.full((n, size), -1, dtype=np.int32)
    codes = np.zeros((n, size), dtype=np.int64)
    relevant = np.zeros((n, size), dtype=np.bool_)
    reached = np.full(len(positives), -1, dtype=np.int64)
    best = np.zeros(n_labels, dtype=np.float32)
    code = np.full(n_labels, -1, dtype=np.int64)
    is_positive = np.zeros(n_labels, dtype=np.bool_)
    state = np.uint64(seed + 1)
    found = np.empty(min(n_labels, clusters.shape[1] * edge_labels.shape[1]), dtype=np.int32)
    for i in range(n):
        n_found = _follow_edges(
            clusters[i], scores[i], edge_labels, edge_weights, best, code, found
        )
        for e in range(indptr[i], indptr[i + 1]):
            is_positive[positives[e]] = True
            reached[e] = code[positives[e]]
        if seed >= 0 and n_found > size:
            state = _perturb(found[:n_found], best, is_positive, state)
        _largest(found[:n_found], best, size, labels[i])
        for k in range(min(size, n_found)):
            codes[i, k] = code[labels[i, k]]
            relevant[i, k] = is_positive[labels[i, k]]
        for e in range(indptr[i], indptr[i + 1]):
            is_positive[positives[e]] = False
        for j in range(n_found):
            code[found[j]] = -1
    return labels, codes, relevant, reached


@compiled
def pair_products(queries: Array, vectors: Array, labels: Array) -> Array:
    """Return query . vector of each label of a padded list, shape (n, k); 0 where padded."""
    products = np.zeros(labels.shape, dtype=np.float32)
    for i in range(labels.shape[0]):
        query = queries[i]
        for k in range(labels.shape[1]):
            if labels[i, k] >= 0:
                products[i, k] = np.dot(query, vectors[labels[i, k]])
    return products
