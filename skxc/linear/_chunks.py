"""Weights of sibling nodes stored together, and beam search over them.

A chunk holds the weights of all children of one inner node, row by row: a row is a feature with the
(child, value) pairs of that feature. A query visits a node by looking up its few features among the
rows of the chunk (through a small hash: rows are sorted by bucket) and adding the rows that it
finds. The cost follows the stored entries of query and chunk, not the number of children.

References
----------
Etter et al., "Accelerating Inference for Sparse Extreme Multi-Label Ranking Trees", WWW 2022.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from skxc.linear._solver import LOGISTIC

# Knuth's multiplicative hash.
HASH = np.uint64(2654435769)
# Log-probabilities stop here, so that their exponentials are float32 numbers above zero.
LOG_FLOOR = -50.0
# Keeps the squared hinge's log-probabilities of margins above one apart.
TIE_BREAK = 1e-3

Array = NDArray[Any]
Arrays = tuple[Any, ...]

_compiled = numba.njit(nogil=True, cache=True, error_model="numpy")


@dataclass(frozen=True, eq=False)
class ChunkedWeights:
    """The weights of one or more trees.

    Nodes of all trees are numbered together: first the N inner nodes, then the labels of every
    tree. Per inner node there is one chunk.

    Attributes
    ----------
    roots : ndarray of int64, shape (n_trees,)
        Root of every tree.
    first_child, n_children : ndarray of int64, shape (N,)
        The children of an inner node have consecutive numbers.
    labels : ndarray of int64
        The label of node N + j.
    bias : ndarray of float32
        Weight of the constant feature for every node; zero for roots.
    bucket_start, key_start, entry_start : ndarray of int64, shape (N + 1,)
        Where the chunks begin in the arrays below: in ``buckets``, in ``keys`` and ``rows``, and in
        ``children`` and ``values``.
    buckets : ndarray of int32
        Per chunk 2^b + 1 numbers: where the keys of every bucket begin in the chunk.
    keys : ndarray of int32
        Features with a weight, by bucket.
    rows : ndarray of int32
        Per key where its entries begin in the chunk.
    children : ndarray of int32
        Child of every entry, counted within the node.
    values : ndarray of float32
        Weight of every entry.
    """

    roots: NDArray[np.int64]
    first_child: NDArray[np.int64]
    n_children: NDArray[np.int64]
    labels: NDArray[np.int64]
    bias: NDArray[np.float32]
    bucket_start: NDArray[np.int64]
    key_start: NDArray[np.int64]
    entry_start: NDArray[np.int64]
    buckets: NDArray[np.int32]
    keys: NDArray[np.int32]
    rows: NDArray[np.int32]
    children: NDArray[np.int32]
    values: NDArray[np.float32]

    @cached_property
    def n_labels(self) -> int:
        """Largest label, plus one."""
        return int(self.labels.max()) + 1

    @cached_property
    def smallest_leaf(self) -> int:
        """Fewest labels under a node right above labels."""
        return int(self.n_children[self.first_child >= len(self.first_child)].min())

    def arrays(self) -> tuple[Any, ...]:
        """Return all arrays, as the kernels take them."""
        return tuple(getattr(self, field.name) for field in fields(self))


@_compiled
def _bucket(feature: int, bits: int) -> np.int64:
    """Return the bucket of a feature among 2^bits."""
    mixed = (np.uint64(feature) * HASH) & np.uint64(0xFFFFFFFF)
    return np.int64(mixed >> np.uint64(32 - bits))


@_compiled
def _n_bits(n: int) -> int:
    """Return the smallest b with 2^b >= n."""
    bits = 0
    while (1 << bits) < n:
        bits += 1
    return bits


@_compiled
def _pack_node(
    features: Array,
    children: Array,
    values: Array,
    keys: Array,
    rows: Array,
    out_children: Array,
    out_values: Array,
    lookup: Array,
) -> tuple[Array, int]:
    """Sort the weights of one node by bucket and feature into the `out` arrays.

    Returns
    -------
    buckets : ndarray of int32
        Where the keys of every bucket begin.
    n_keys : int
    """
    # `keys` first gets the features in the order of their first use, then in that of the buckets.
    n = 0
    for feature in features:
        if lookup[feature] < 0:
            lookup[feature] = 0
            keys[n] = feature
            n += 1
        lookup[feature] += 1
    bits = _n_bits(n)
    buckets = np.zeros((1 << bits) + 1, dtype=np.int32)
    for feature in keys[:n]:
        buckets[_bucket(feature, bits) + 1] += 1
    buckets[:] = np.cumsum(buckets)
    fill = buckets[:-1].copy()
    for feature in keys[:n].copy():
        bucket = _bucket(feature, bits)
        keys[fill[bucket]] = feature
        fill[bucket] += 1
    start = 0
    for r in range(n):
        rows[r] = start
        count = lookup[keys[r]]
        lookup[keys[r]] = start
        start += count
    for e in range(len(features)):
        at = lookup[features[e]]
        out_children[at], out_values[at] = children[e], values[e]
        lookup[features[e]] += 1
    lookup[keys[:n]] = -1
    return buckets, n


@_compiled
def pack_nodes(
    entry_start: Array, features: Array, children: Array, values: Array, n_columns: int
) -> Arrays:
    """Return chunks of all nodes: the last eight arrays of `ChunkedWeights`.

    Parameters
    ----------
    entry_start : ndarray of int64
        Where the weights of every node begin.
    features, children, values : ndarray
        Per weight its feature, its child (counted within the node) and its value.
    n_columns : int
        Number of features.

    Returns
    -------
    bucket_start, key_start, buckets, keys, rows, children, values
    """
    n_nodes = len(entry_start) - 1
    lookup = np.full(n_columns, -1, dtype=np.int32)
    key_start = np.zeros(n_nodes + 1, dtype=np.int64)
    bucket_start = np.zeros(n_nodes + 1, dtype=np.int64)
    keys, rows = np.empty(len(values), dtype=np.int32), np.empty(len(values), dtype=np.int32)
    out_children = np.empty(len(values), dtype=np.int32)
    out_values = np.empty(len(values), dtype=np.float32)
    # A node with n keys has fewer than 2n buckets, and two numbers more at the ends.
    buckets = np.empty(2 * len(values) + 2 * n_nodes, dtype=np.int32)
    for p in range(n_nodes):
        begin, end = entry_start[p], entry_start[p + 1]
        first = key_start[p]
        found, n_keys = _pack_node(
            features[begin:end], children[begin:end], values[begin:end],
            keys[first:], rows[first:], out_children[begin:end], out_values[begin:end], lookup,
        )  # fmt: skip
        key_start[p + 1] = first + n_keys
        bucket_start[p + 1] = bucket_start[p] + len(found)
        buckets[bucket_start[p] : bucket_start[p + 1]] = found
    n_keys, n_buckets = key_start[n_nodes], bucket_start[n_nodes]
    return (
        bucket_start, key_start, buckets[:n_buckets].copy(),
        keys[:n_keys].copy(), rows[:n_keys].copy(), out_children, out_values,
    )  # fmt: skip


@_compiled
def _is_worse(score: float, label: int, other_score: float, other_label: int) -> bool:
    return score < other_score or (score == other_score and label > other_label)


@_compiled
def _sift(scores: Array, ids: Array, root: int, size: int) -> None:
    """Restore the heap below `root`; the worst entry is on top."""
    while True:
        child = 2 * root + 1
        if child >= size:
            return
        right = child + 1
        if right < size and _is_worse(scores[right], ids[right], scores[child], ids[child]):
            child = right
        if not _is_worse(scores[child], ids[child], scores[root], ids[root]):
            return
        scores[root], scores[child] = scores[child], scores[root]
        ids[root], ids[child] = ids[child], ids[root]
        root = child


@_compiled
def best_first(scores: Array, ids: Array, n: int, k: int) -> int:
    """Move the k best of the first n entries to the front, best first, ties to the lower id.

    Returns
    -------
    int
        min(n, k)
    """
    k = min(n, k)
    for root in range(k // 2 - 1, -1, -1):
        _sift(scores, ids, root, k)
    for i in range(k, n):
        if _is_worse(scores[0], ids[0], scores[i], ids[i]):
            scores[0], ids[0] = scores[i], ids[i]
            _sift(scores, ids, 0, k)
    for end in range(k - 1, 0, -1):
        scores[0], scores[end] = scores[end], scores[0]
        ids[0], ids[end] = ids[end], ids[0]
        _sift(scores, ids, 0, end)
    return k


@_compiled
def _score_children(model: Arrays, node: int, query: Arrays, scale: float, scores: Array) -> None:
    """Write w.x of the children of a node to `scores`."""
    _, first_child, n_children, _, bias, bucket_start, key_start, entry_start = model[:8]
    buckets, keys, rows, children, values = model[8:]
    features, weights = query
    first = first_child[node]
    scores[: n_children[node]] = bias[first : first + n_children[node]]
    begin = bucket_start[node]
    bits = _n_bits(bucket_start[node + 1] - begin - 1)
    first_key, end_key = key_start[node], key_start[node + 1]
    first_entry, end_entry = entry_start[node], entry_start[node + 1]
    for e in range(len(features)):
        bucket = begin + _bucket(features[e], bits)
        for key in range(first_key + buckets[bucket], first_key + buckets[bucket + 1]):
            if keys[key] == features[e]:
                x = weights[e] * scale
                end = first_entry + rows[key + 1] if key + 1 < end_key else end_entry
                for at in range(first_entry + rows[key], end):
                    scores[children[at]] += x * values[at]
                break


@_compiled
def _log_probability(margin: np.float32, loss: int) -> np.float32:
    """Return log p of a margin: the logistic function's, or about -max(0, 1 - margin)^3."""
    one, tiny = np.float32(1), np.float32(TIE_BREAK)
    if loss == LOGISTIC:
        # Without overflow on either side.
        return min(margin, np.float32(0)) - np.log1p(np.exp(-abs(margin)))
    if margin >= one:
        return -tiny / margin
    return -((one - margin) ** 3) - tiny


@_compiled
def _score_beams(
    model: Arrays, X: Arrays, scales: Array, nodes: Array, scores: Array, loss: int, out: Array
) -> None:
    """Write the log-probabilities of the children of every row's nodes to `out`.

    `nodes` and `scores` have shape (n, beam_size), with -1 where a row has fewer nodes; `out` has
    shape (n, beam_size, largest number of children). Rows that visit the same node do so one after
    the other, while its weights are in the processor's cache.
    """
    indptr, indices, values = X
    n_children = model[2]
    beam_size = nodes.shape[1]
    flat = nodes.ravel()
    margins = np.empty(out.shape[2], dtype=np.float32)
    for place in np.argsort(flat):
        if flat[place] < 0:
            continue
        i, b, node = place // beam_size, place % beam_size, flat[place]
        query = (indices[indptr[i] : indptr[i + 1]], values[indptr[i] : indptr[i + 1]])
        _score_children(model, node, query, scales[i], margins)
        for c in range(n_children[node]):
            score = scores[i, b] + _log_probability(margins[c], loss)
            out[i, b, c] = max(score, np.float32(LOG_FLOOR))


@_compiled
def _candidates(nodes: Array, scored: Array, model: Arrays, ids: Array, scores: Array) -> int:
    """List the children of one row's nodes with their scores, and return their number."""
    first_child, n_children = model[1], model[2]
    n = 0
    for b in range(len(nodes)):
        if nodes[b] < 0:
            break
        for c in range(n_children[nodes[b]]):
            ids[n], scores[n] = first_child[nodes[b]] + c, scored[b, c]
            n += 1
    return n


@_compiled
def _mean_of_trees(ids: Array, scores: Array, n: int, n_trees: int, total: Array) -> int:
    """Replace repeated labels by one with the log of its mean probability over the trees.

    `total` holds a zero per label, before and after. Labels that a tree did not reach have
    probability zero there.
    """
    n_found = 0
    for j in range(n):
        label = ids[j]
        if total[label] == 0:
            ids[n_found] = label
            n_found += 1
        total[label] += np.exp(scores[j])
    for j in range(n_found):
        scores[j] = np.log(total[ids[j]] / np.float32(n_trees))
        total[ids[j]] = 0
    return n_found


@_compiled
def inverse_norms(X: Arrays) -> Array:
    """Return 1 / |x| of every row, 1 for empty rows."""
    indptr, _, values = X
    scales = np.ones(len(indptr) - 1, dtype=np.float32)
    for i in range(len(scales)):
        square = 0.0
        for e in range(indptr[i], indptr[i + 1]):
            square += values[e] * values[e]
        if square > 0:
            scales[i] = 1 / np.sqrt(square)
    return scales


@_compiled
def search_rows(
    model: Arrays,
    X: Arrays,
    beam_size: int,
    loss: int,
    n_labels: int,
    out_ids: Array,
    out_scores: Array,
) -> None:
    """Find the best labels of rows. What a row gets does not depend on the other rows.

    Parameters
    ----------
    model : tuple
        ``ChunkedWeights.arrays()``.
    X : (indptr, indices, values)
        Rows; they are normalised here.
    beam_size : int
        Number of inner nodes that are followed per level and tree.
    loss : int
        Decides how margins become probabilities.
    n_labels : int
    out_ids : ndarray of int, shape (n, k)
        Gets the labels, best first, ties to the lower id; -1 where a row runs out.
    out_scores : ndarray of float32, shape (n, k)
        Gets log-probabilities; -inf where a row runs out.
    """
    roots, first_child, n_children, labels = model[0], model[1], model[2], model[3]
    n, k, n_trees, n_inner = len(out_ids), out_ids.shape[1], len(roots), len(first_child)
    if n_inner == n_trees:
        beam_size = 1  # without inner nodes below the roots
    widest = n_children.max()
    scales = inverse_norms(X)
    nodes = np.full((n_trees, n, beam_size), -1, dtype=np.int64)
    scores = np.zeros((n_trees, n, beam_size), dtype=np.float32)
    scored = np.empty((n_trees, n, beam_size, widest), dtype=np.float32)
    ids = np.empty(n_trees * beam_size * widest, dtype=np.int64)
    found = np.empty(n_trees * beam_size * widest, dtype=np.float32)
    for t in range(n_trees):
        nodes[t, :, 0] = roots[t]
        _score_beams(model, X, scales, nodes[t], scores[t], loss, scored[t])
        while first_child[nodes[t, 0, 0]] < n_inner:
            for i in range(n):
                m = _candidates(nodes[t, i], scored[t, i], model, ids, found)
                m = best_first(found, ids, m, beam_size)
                nodes[t, i, :m], scores[t, i, :m] = ids[:m], found[:m]
            _score_beams(model, X, scales, nodes[t], scores[t], loss, scored[t])
    total = np.zeros(n_labels if n_trees > 1 else 0, dtype=np.float32)
    for i in range(n):
        m = 0
        for t in range(n_trees):
            m += _candidates(nodes[t, i], scored[t, i], model, ids[m:], found[m:])
        for j in range(m):
            ids[j] = labels[ids[j] - n_inner]
        if n_trees > 1:
            m = _mean_of_trees(ids, found, m, n_trees, total)
        m = best_first(found, ids, m, k)
        out_ids[i, :m], out_scores[i, :m] = ids[:m], found[:m]
        out_ids[i, m:], out_scores[i, m:] = -1, -np.inf
