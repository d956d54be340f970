"""Beam search over label trees, compiled. What a row gets does not depend on the other rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from joblib import Parallel, delayed
from numpy.typing import NDArray

from skxc.linear._chunks import ChunkedWeights, hashed
from skxc.linear._solver import LOGISTIC, LOSSES
from skxc.utils._compiled import compiled
from skxc.utils._sparse import TopK, index_dtype

# Log-probabilities stop here, so that their exponentials are float32 numbers above zero.
LOG_FLOOR = -50.0
# Keeps the squared hinge's log-probabilities of margins above one apart.
TIE_BREAK = 1e-3
# Rows that are searched together: at most so many, and with at most so many candidates.
SEARCH_ROWS, SEARCH_CELLS = 1024, 1 << 22

Array = NDArray[Any]


def search(
    model: ChunkedWeights,
    X: sp.csr_array,
    k: int,
    *,
    beam_width: int,
    loss: str,
    n_jobs: int = 1,
) -> TopK:
    """Return the k best labels of every row by beam search.

    Parameters
    ----------
    model : ChunkedWeights
    X : csr_array of shape (n, d)
        Rows of any length; they are normalised here.
    k : int
    beam_width : int
        Number of inner nodes that are followed per level and tree.
    loss : str
        The loss that the model was trained with; it decides how margins become probabilities.
    n_jobs : int, default=1
        Number of threads; the result does not depend on it.

    Returns
    -------
    indices : ndarray of int32, shape (n, k)
        Labels, best first, ties to the lower id; -1 where a row runs out.
    scores : ndarray of float32, shape (n, k)
        Log-probabilities; -inf where a row runs out.
    """
    n = X.shape[0]
    indices = np.empty((n, k), dtype=index_dtype(model.n_labels))
    scores = np.empty((n, k), dtype=np.float32)
    indptr = X.indptr.astype(np.int64, copy=False)
    features, values = hashed(X.indices), X.data.astype(np.float32, copy=False)
    beam_width = min(beam_width, len(model.first_child))  # there are no more nodes to follow

    def run(start: int) -> None:
        part = slice(start, start + size)
        rows = (indptr[start : start + size + 1], features, values)
        _search_rows(
            model.arrays,
            rows,
            beam_width,
            LOSSES[loss],
            model.n_labels,
            indices[part],
            scores[part],
        )

    cells = len(model.roots) * beam_width * int(model.n_children.max())
    size = max(1, min(SEARCH_ROWS, SEARCH_CELLS // cells))
    if n_jobs == 1 or n <= size:
        for start in range(0, n, size):
            run(start)
    else:
        parallel = Parallel(n_jobs=n_jobs, require="sharedmem")
        parallel(delayed(run)(start) for start in range(0, n, size))
    return indices, scores


def score_pairs(
    model: ChunkedWeights,
    X: sp.csr_array,
    rows: NDArray[np.integer],
    labels: NDArray[np.integer],
    *,
    loss: str,
) -> NDArray[np.float32]:
    """Return the scores that a beam of all nodes gives to pairs, bit for bit.

    Parameters
    ----------
    model : ChunkedWeights
    X : csr_array of shape (n, d)
    rows, labels : ndarray of int, shape (e,)
    loss : str

    Returns
    -------
    ndarray of float32, shape (e,)
        -inf for labels that no tree has.
    """
    scores = np.zeros(len(rows), dtype=np.float32)
    if not len(rows):
        return scores
    query = X.indptr.astype(np.int64, copy=False), hashed(X.indices), X.data.astype(np.float32)
    known = labels < model.n_labels
    for leaves in model.leaves:
        nodes = np.where(known, leaves[np.minimum(labels, model.n_labels - 1)], -1)
        # Neighbours in the tree follow each other, and share what lies above them.
        order = np.lexsort((nodes, rows))
        _add_probabilities(
            model.arrays, query, rows[order].astype(np.int64), nodes[order], model.parents,
            LOSSES[loss], len(model.leaves) > 1, order, scores,
        )  # fmt: skip
        known = known & (nodes >= 0)
    if len(model.leaves) > 1:
        _take_logarithms(scores, len(model.leaves))
    return scores


@compiled
def _take_logarithms(total: Array, n_trees: int) -> None:
    """Replace sums of probabilities by the logarithm of their mean, as `_mean_of_trees` does."""
    for pair in range(len(total)):
        total[pair] = np.log(total[pair] / np.float32(n_trees)) if total[pair] > 0 else -np.inf


@compiled
def _add_probabilities(
    model: Any,
    X: tuple[Array, Array, Array],
    rows: Array,
    nodes: Array,
    parents: Array,
    loss: int,
    of_several: bool,
    order: Array,
    out: Array,
) -> None:
    """Add the probabilities of leaves, or write the log-probabilities of those of the only tree."""
    indptr, features, values = X
    scales = inverse_norms(indptr, values)
    depth = 0
    node = nodes.max()
    while node >= 0:
        node, depth = parents[node], depth + 1
    path = np.full(depth, -1, dtype=np.int64)  # from the root to the leaf
    at = np.full(depth, -1, dtype=np.int64)  # whose children are scored, level by level
    scored = np.empty((depth, model.n_children.max()), dtype=np.float32)
    before = -1
    for pair in range(len(rows)):
        row = rows[pair]
        if nodes[pair] < 0:
            if not of_several:
                out[order[pair]] = -np.inf
            continue
        if row != before:
            at[:] = -1
            before = row
        node = nodes[pair]
        for level in range(depth - 1, -1, -1):
            path[level], node = node, parents[node]
        query = slice(indptr[row], indptr[row + 1])
        score = np.float32(0)
        for level in range(depth - 1):
            node = path[level]
            if at[level] != node:
                margins = scored[level]
                _score_children(model, node, features[query], values[query], scales[row], margins)
                for c in range(model.n_children[node]):
                    total = score + log_probability(margins[c], loss)
                    margins[c] = max(total, np.float32(LOG_FLOOR))
                at[level] = node
            score = scored[level, path[level + 1] - model.first_child[node]]
        if of_several:
            out[order[pair]] += np.exp(score)
        else:
            out[order[pair]] = score


@compiled
def _search_rows(
    model: Any,
    X: tuple[Array, Array, Array],
    beam_width: int,
    loss: int,
    n_labels: int,
    out_ids: Array,
    out_scores: Array,
) -> None:
    """Write the best labels of rows and their scores to `out`.

    `model` is ``ChunkedWeights.arrays``, and `X` holds indptr, hashed features and values.
    """
    n, k = out_ids.shape
    n_trees, n_inner = len(model.roots), len(model.first_child)
    if n_inner == n_trees:
        beam_width = 1  # without inner nodes below the roots
    widest = model.n_children.max()
    nodes = np.full((n_trees, n, beam_width), -1, dtype=np.int64)
    scores = np.zeros((n_trees, n, beam_width), dtype=np.float32)
    scored = np.empty((n_trees, n, beam_width, widest), dtype=np.float32)
    ids = np.empty(n_trees * beam_width * widest, dtype=np.int64)
    found = np.empty(n_trees * beam_width * widest, dtype=np.float32)
    scales = inverse_norms(X[0], X[2])
    for t in range(n_trees):
        nodes[t, :, 0] = model.roots[t]
        _score_beams(model, X, scales, nodes[t], scores[t], loss, scored[t])
        while model.first_child[nodes[t, 0, 0]] < n_inner:
            for i in range(n):
                m = _candidates(nodes[t, i], scored[t, i], model, ids, found)
                m = best_first(found, ids, m, beam_width)
                nodes[t, i, :m], scores[t, i, :m] = ids[:m], found[:m]
            _score_beams(model, X, scales, nodes[t], scores[t], loss, scored[t])
    total = np.zeros(n_labels if n_trees > 1 else 0, dtype=np.float32)
    for i in range(n):
        m = 0
        for t in range(n_trees):
            m += _candidates(nodes[t, i], scored[t, i], model, ids[m:], found[m:])
        ids[:m] = model.labels[ids[:m] - n_inner]
        if n_trees > 1:
            m = _mean_of_trees(ids, found, m, n_trees, total)
        m = best_first(found, ids, m, k)
        out_ids[i, :m], out_scores[i, :m] = ids[:m], found[:m]
        out_ids[i, m:], out_scores[i, m:] = -1, -np.inf


@compiled
def _score_beams(
    model: Any,
    X: tuple[Array, Array, Array],
    scales: Array,
    nodes: Array,
    scores: Array,
    loss: int,
    out: Array,
) -> None:
    """Write the log-probabilities of the children of every row's nodes to `out`.

    `nodes` and `scores` have shape (n, beam_width), with -1 where a row has fewer nodes; `out` has
    shape (n, beam_width, largest number of children). Rows that visit the same node do so one after
    the other, while its weights are in the processor's cache.
    """
    indptr, features, values = X
    beam_width = nodes.shape[1]
    flat = nodes.ravel()
    margins = np.empty(out.shape[2], dtype=np.float32)
    for place in np.argsort(flat):
        if flat[place] < 0:
            continue
        i, b, node = place // beam_width, place % beam_width, flat[place]
        query = slice(indptr[i], indptr[i + 1])
        _score_children(model, node, features[query], values[query], scales[i], margins)
        for c in range(model.n_children[node]):
            score = scores[i, b] + log_probability(margins[c], loss)
            out[i, b, c] = max(score, np.float32(LOG_FLOOR))


@compiled
def _score_children(
    model: Any, node: int, features: Array, values: Array, scale: float, scores: Array
) -> None:
    """Write w.x of the children of a node to `scores`."""
    first, n = model.first_child[node], model.n_children[node]
    scores[:n] = model.bias[first : first + n]
    begin, shift = model.first_bucket[node], model.shift[node]
    for e in range(len(features)):
        bucket = begin + (np.int64(features[e]) >> shift)
        for row in range(model.buckets[bucket], model.buckets[bucket + 1]):
            if model.keys[row] == features[e]:
                x = values[e] * scale
                for at in range(model.rows[row], model.rows[row + 1]):
                    scores[model.children[at]] += x * model.values[at]
                break


@compiled
def log_probability(margin: np.float32, loss: int) -> np.float32:
    """Return log p of a margin: the logistic function's, or about -max(0, 1 - margin)^3."""
    one, tiny = np.float32(1), np.float32(TIE_BREAK)
    if loss == LOGISTIC:
        # Without overflow on either side.
        return min(margin, np.float32(0)) - np.log1p(np.exp(-abs(margin)))
    if margin >= one:
        return -tiny / margin
    return -((one - margin) ** 3) - tiny


@compiled
def _candidates(nodes: Array, scored: Array, model: Any, ids: Array, scores: Array) -> int:
    """List the children of one row's nodes with their scores, and return their number."""
    n = 0
    for b in range(len(nodes)):
        if nodes[b] < 0:
            break
        for c in range(model.n_children[nodes[b]]):
            ids[n], scores[n] = model.first_child[nodes[b]] + c, scored[b, c]
            n += 1
    return n


@compiled
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


@compiled
def best_first(scores: Array, ids: Array, n: int, k: int) -> int:
    """Move the k best of the first n entries to the front, best first, ties to the lower id.

    Scores are float32 and not above zero, ids lie below 2^31.

    Returns
    -------
    int
        min(n, k)
    """
    # Of numbers below zero, the larger one has the smaller bits: one integer orders both.
    bits = scores.view(np.int32)
    keys = np.empty(n, dtype=np.int64)
    for j in range(n):
        keys[j] = (np.int64(bits[j] & 0x7FFFFFFF) << 32) | ids[j]
    if k < n:
        keys = np.partition(keys, k - 1)[:k]
    keys.sort()
    for j in range(len(keys)):
        ids[j] = keys[j] & 0xFFFFFFFF
        bits[j] = keys[j] >> 32
        scores[j] = -scores[j]
    return len(keys)


@compiled
def inverse_norms(indptr: Array, values: Array) -> Array:
    """Return 1 / |x| of every row as float32; 1 for empty rows."""
    scales = np.ones(len(indptr) - 1, dtype=np.float32)
    for i in range(len(scales)):
        square = 0.0
        for e in range(indptr[i], indptr[i + 1]):
            square += values[e] * values[e]
        if square > 0:
            scales[i] = 1 / np.sqrt(square)
    return scales
