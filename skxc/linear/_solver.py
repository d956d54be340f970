"""Dual coordinate descent for all children of one tree node at once.

A node has n rows and m children; child c has the targets ``t_ic`` = +1 (the row has a label under
the child) or -1, and minimises over w (the last weight is the one of a constant feature)

    1/2 |w|^2 + sum_i C_ic loss(t_ic w.x_i),    C_ic = C weight_i factor_c if t_ic = +1,
                                                C_ic = C weight_i otherwise,

with loss(v) = max(0, 1 - v)^2 or log(1 + exp(-v)). The duals are solved one row at a time:

    squared hinge   a >= 0,       gradient  G = t w.x - 1 + a / (2 C)
    logistic        0 < a < C,    gradient  G = t w.x + log(a / (C - a))

All children share the rows and their order, so that a step updates a block of children side by
side: w is stored as (feature, child), and the innermost loops run over consecutive numbers. That is
what makes it quick, since the processor then works on many children per instruction.

References
----------
Hsieh et al., "A Dual Coordinate Descent Method for Large-scale Linear SVM", ICML 2008, algorithm 1;
Yu, Huang & Lin, "Dual coordinate descent methods for logistic regression and maximum entropy
models", Machine Learning 85, 2011, algorithm 5.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

SQUARED_HINGE, LOGISTIC = 0, 1
LOSSES = {"squared_hinge": SQUARED_HINGE, "logistic": LOGISTIC}
NEWTON_STEPS = 3
NEAR_BOUND = 1e-6
# Children that are done leave their block once they are this share of it.
DONE_SHARE = 0.25

Array = NDArray[Any]
Arrays = tuple[Any, ...]

_compiled = numba.njit(nogil=True, cache=True, error_model="numpy")


@_compiled
def _shuffle(order: Array, state: np.uint64) -> np.uint64:
    """Shuffle `order` in place with a xorshift generator; return its next state."""
    for i in range(len(order) - 1, 0, -1):
        state ^= state << np.uint64(13)
        state ^= state >> np.uint64(7)
        state ^= state << np.uint64(17)
        j = int((state >> np.uint64(32)) * np.uint64(i + 1) >> np.uint64(32))
        order[i], order[j] = order[j], order[i]
    return state


@_compiled
def _hinge_step(
    alpha: Array,
    score: Array,
    sign: Array,
    diagonal: Array,
    curvature: float,
    step: Array,
    low: Array,
    high: Array,
) -> None:
    """Update one row's duals in a block; leave the changes of ``a t`` in `step`."""
    zero = np.float32(0)
    for c in range(len(step)):
        gradient = sign[c] * score[c] - np.float32(1) + alpha[c] * diagonal[c]
        projected = gradient if alpha[c] > zero else min(gradient, zero)
        low[c] = min(low[c], projected)
        high[c] = max(high[c], projected)
        new = max(alpha[c] - gradient / (curvature + diagonal[c]), zero)
        step[c] = (new - alpha[c]) * sign[c]
        alpha[c] = new


@_compiled
def _logistic_step(
    alpha: Array,
    score: Array,
    sign: Array,
    diagonal: Array,
    curvature: float,
    step: Array,
    low: Array,
    high: Array,
) -> None:
    """Update one row's duals in a block by a few Newton steps that keep inside the bounds."""
    for c in range(len(step)):
        bound = np.float32(0.5) / diagonal[c]  # the diagonal is 1 / (2 C)
        edge = np.float32(NEAR_BOUND) * bound
        old = min(max(alpha[c], edge), bound - edge)
        margin = sign[c] * score[c]
        new = old
        for newton in range(NEWTON_STEPS):
            gradient = margin + curvature * (new - old) + np.log(new / (bound - new))
            if newton == 0:
                low[c] = min(low[c], gradient)
                high[c] = max(high[c], gradient)
            moved = new - gradient / (curvature + bound / (new * (bound - new)))
            # A step over an edge goes nine tenths of the way to it instead.
            if moved <= 0:
                moved = np.float32(0.1) * new
            elif moved >= bound:
                moved = bound - np.float32(0.1) * (bound - new)
            new = min(max(moved, edge), bound - edge)
        step[c] = (new - old) * sign[c]
        alpha[c] = new


@_compiled
def _epoch(
    order: Array,
    rows: Arrays,
    positives: Arrays,
    weights: Array,
    alpha: Array,
    low: Array,
    high: Array,
    loss: int,
) -> None:
    """Visit every row once; leave the range of projected gradients per child in `low`, `high`."""
    indptr, indices, values, curvature, diagonal = rows
    positive_indptr, positive_child, positive_diagonal = positives
    width, bias = weights.shape[1], weights[-1]
    low[:], high[:] = np.float32(np.inf), np.float32(-np.inf)
    sign = np.full(width, -1, dtype=np.float32)
    diag, score = np.empty(width, dtype=np.float32), np.empty(width, dtype=np.float32)
    step = np.empty(width, dtype=np.float32)
    for i in order:
        score[:] = bias
        for e in range(indptr[i], indptr[i + 1]):
            x, row = values[e], weights[indices[e]]
            for c in range(width):
                score[c] += x * row[c]
        diag[:] = diagonal[i]
        for e in range(positive_indptr[i], positive_indptr[i + 1]):
            sign[positive_child[e]] = np.float32(1)
            diag[positive_child[e]] = positive_diagonal[e]
        if loss == SQUARED_HINGE:
            _hinge_step(alpha[i], score, sign, diag, curvature[i], step, low, high)
        else:
            _logistic_step(alpha[i], score, sign, diag, curvature[i], step, low, high)
        for e in range(positive_indptr[i], positive_indptr[i + 1]):
            sign[positive_child[e]] = np.float32(-1)
        for c in range(width):
            bias[c] += step[c]
        for e in range(indptr[i], indptr[i + 1]):
            x, row = values[e], weights[indices[e]]
            for c in range(width):
                row[c] += x * step[c]


@_compiled
def _positives(
    names: Array, nodes: Arrays, first: int, place: Array, factor: Array, diagonal: Array
) -> Arrays:
    """Return (indptr, place, diagonal) of the positive children of every row within a block."""
    node_indptr, node_ids = nodes
    indptr = np.zeros(len(names) + 1, dtype=np.int64)
    room = 0
    for i in names:
        room += node_indptr[i + 1] - node_indptr[i]
    places = np.empty(room, dtype=np.int64)
    diagonals = np.empty(room, dtype=np.float32)
    at = 0
    for i in range(len(names)):
        for e in range(node_indptr[names[i]], node_indptr[names[i] + 1]):
            child = node_ids[e] - first
            if 0 <= child < len(place) and place[child] >= 0:
                places[at] = place[child]
                diagonals[at] = diagonal[i] / factor[node_ids[e]]
                at += 1
        indptr[i + 1] = at
    return indptr, places[:at], diagonals[:at]


@_compiled
def _store(
    weights: Array,
    columns: Array,
    done: Array,
    threshold: float,
    bias: Array,
    kept: tuple[Any, ...],
) -> tuple[Any, ...]:
    """Add the large weights of the done columns to `kept`; return it, grown where needed."""
    features, children, values, n = kept
    bias[columns[done]] = weights[-1][done]
    for f in range(len(weights) - 1):
        if n + len(done) > len(features):
            room = np.empty(len(features) + len(done), dtype=np.int32)
            features = np.concatenate((features, room))
            children = np.concatenate((children, room))
            values = np.concatenate((values, room.astype(np.float32)))
        for c in done:
            if abs(weights[f, c]) >= threshold:
                features[n], children[n], values[n] = f, columns[c], weights[f, c]
                n += 1
    return features, children, values, n


@_compiled
def solve_block(
    rows: Arrays,
    names: Array,
    n_features: int,
    nodes: Arrays,
    first: int,
    width: int,
    factor: Array,
    settings: tuple[Any, ...],
) -> tuple[Any, ...]:
    """Train the children ``first`` to ``first + width - 1`` of one node.

    Parameters
    ----------
    rows : (indptr, indices, values, curvature, diagonal)
        The rows of the node with features numbered within the node; ``curvature`` is |x|^2 + 1,
        ``diagonal`` is 1 / (2 C weight).
    names : ndarray of int64
        Numbers of the rows.
    n_features : int
    nodes : (indptr, ids)
        Positive nodes of all rows.
    first, width : int
    factor : ndarray of float32, one per node
        Factor of C of the positive rows of a node.
    settings : (loss, tol, max_iter, threshold, seed)

    Returns
    -------
    bias : ndarray of float32, shape (width,)
        Weights of the constant feature.
    kept : (features, children, values, n)
        The first n entries are the other weights of at least ``threshold``.
    n_iter : int
        Epochs that the slowest child needed.
    """
    loss, tol, max_iter, threshold, seed = settings
    bias = np.zeros(width, dtype=np.float32)
    size = 1024
    kept = (np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size, np.float32), 0)
    columns, place = np.arange(width), np.arange(width)
    weights = np.zeros((n_features + 1, width), dtype=np.float32)
    alpha = np.zeros((len(names), width), dtype=np.float32)
    positives = _positives(names, nodes, first, place, factor, rows[4])
    low, high = np.empty(width, dtype=np.float32), np.empty(width, dtype=np.float32)
    order, is_open = np.arange(len(names)), np.ones(width, dtype=np.bool_)
    state, n_iter = np.uint64(seed) * np.uint64(2) + np.uint64(1), 0
    for iteration in range(max_iter):
        state = _shuffle(order, state)
        _epoch(order, rows, positives, weights, alpha, low, high, loss)
        n_iter += 1
        is_done = (high - low <= tol) | (iteration + 1 == max_iter)
        # Weights are stored at once, so that no child depends on the others of its block.
        kept = _store(weights, columns, np.flatnonzero(is_done & is_open), threshold, bias, kept)
        is_open &= ~is_done
        still = np.flatnonzero(is_open)
        if len(still) == 0:
            break
        if len(columns) - len(still) < DONE_SHARE * len(columns):
            continue
        columns, weights, alpha = columns[still], weights[:, still], alpha[:, still]
        place[:] = -1
        place[columns] = np.arange(len(still))
        positives = _positives(names, nodes, first, place, factor, rows[4])
        low, high, is_open = low[still], high[still], is_open[still]
    return bias, kept, n_iter


@_compiled
def _local_rows(names: Array, X: Arrays, lookup: Array) -> Arrays:
    """Return the rows with features numbered from 0 in the order of their first use."""
    x_indptr, x_indices, x_values = X
    indptr = np.zeros(len(names) + 1, dtype=np.int64)
    for i in range(len(names)):
        indptr[i + 1] = indptr[i] + x_indptr[names[i] + 1] - x_indptr[names[i]]
    indices = np.empty(indptr[-1], dtype=np.int32)
    values = np.empty(indptr[-1], dtype=np.float32)
    features = np.empty(min(indptr[-1], len(lookup)), dtype=np.int32)
    n, at = 0, 0
    for i in names:
        for e in range(x_indptr[i], x_indptr[i + 1]):
            feature = x_indices[e]
            if lookup[feature] < 0:
                lookup[feature] = n
                features[n] = feature
                n += 1
            indices[at], values[at] = lookup[feature], x_values[e]
            at += 1
    features = features[:n]
    lookup[features] = -1
    return indptr, indices, values, features


@_compiled
def train_blocks(
    blocks: Array,
    X: Arrays,
    n_columns: int,
    cost: Array,
    nodes: Arrays,
    members: Arrays,
    factor: Array,
    settings: tuple[Any, ...],
) -> list[tuple[Any, ...]]:
    """Train blocks of siblings, one after the other.

    Parameters
    ----------
    blocks : ndarray of int64, shape (n_blocks, 3)
        Inner node, first child, number of children.
    X : (indptr, indices, values)
        All rows, of length 1 or empty.
    n_columns : int
    cost : ndarray of float32
        C times the weight of every row.
    nodes : (indptr, ids)
        Positive nodes of every row.
    members : (indptr, rows)
        Rows of every inner node.
    factor : ndarray of float32, one per node
        Factor of C for the positive rows of a node.
    settings : (loss, tol, max_iter, threshold, seed)

    Returns
    -------
    list of (bias, features, children, values, n_iter)
        Per block; children are counted from the first of the block.
    """
    lookup = np.full(n_columns, -1, dtype=np.int32)
    loss, tol, max_iter, threshold, seed = settings
    results = []
    for node, first, width in blocks:
        names = members[1][members[0][node] : members[0][node + 1]]
        indptr, indices, values, features = _local_rows(names, X, lookup)
        curvature = np.ones(len(names), dtype=np.float32)
        for i in range(len(names)):
            for e in range(indptr[i], indptr[i + 1]):
                curvature[i] += values[e] * values[e]
        rows = (indptr, indices, values, curvature, np.float32(0.5) / cost[names])
        bias, kept, n_iter = solve_block(
            rows, names, len(features), nodes, first, width, factor,
            (loss, tol, max_iter, threshold, seed + 7919 * node),
        )  # fmt: skip
        n = kept[3]
        found = (features[kept[0][:n]], kept[1][:n].copy(), kept[2][:n].copy())
        results.append((bias, found[0], found[1], found[2], n_iter))
    return results
