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

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skxc._params import NonNegativeFloat, Part, PositiveFloat, PositiveInt, params
from skxc.utils._compiled import compiled

SQUARED_HINGE, LOGISTIC = 0, 1
LOSSES = {"squared_hinge": SQUARED_HINGE, "logistic": LOGISTIC}
NEWTON_STEPS = 3
NEAR_BOUND = 1e-6
# Children that are done leave their block once they are this share of it.
DONE_SHARE = 0.25

Array = NDArray[Any]


@params
class Solver(Part):
    """How long classifiers are trained, and which of their weights are kept.

    Parameters
    ----------
    tol : float, default=0.1
        A classifier is trained until its projected gradients lie within this range.
    max_iter : int, default=30
        Largest number of passes over the rows of a node.
    prune : float, default=0.1
        Weights of a smaller absolute value are dropped after training.
    """

    tol: PositiveFloat = 0.1
    max_iter: PositiveInt = 30
    prune: NonNegativeFloat = 0.1


class Problem(NamedTuple):
    """The classifiers of one tree, as compiled code takes them.

    Attributes
    ----------
    indptr, indices, values : ndarray of int64, int32 and float32
        Rows of length 1 or empty, in CSR form.
    n_features : int
    curvature : ndarray of float32, shape (n,)
        |x|^2 + 1.
    diagonal : ndarray of float32, shape (n,)
        1 / (2 C weight).
    node_indptr, nodes : ndarray of int64 and int32
        Nodes above and at the labels of every row: those that it is positive for.
    member_indptr, members : ndarray of int64 and int32
        Rows of every inner node.
    factor : ndarray of float32, one per node
        Factor of C for the positive rows of a node.
    loss : int
    tol, max_iter, prune
        See `Solver`.
    seed : int
        Decides the order in which rows are visited.
    """

    indptr: Array
    indices: Array
    values: Array
    n_features: int
    curvature: Array
    diagonal: Array
    node_indptr: Array
    nodes: Array
    member_indptr: Array
    members: Array
    factor: Array
    loss: int
    tol: np.float32
    max_iter: int
    prune: np.float32
    seed: int


@compiled
def train_blocks(blocks: Array, problem: Problem) -> list[tuple[Array, Array, Array, Array, int]]:
    """Train blocks of siblings, one after the other.

    Parameters
    ----------
    blocks : ndarray of int64, shape (n_blocks, 3)
        Inner node, first child, number of children.
    problem : Problem

    Returns
    -------
    list of (bias, features, children, values, n_iter)
        Per block: the weights of the constant feature; feature, child (counted from the first of
        the block) and value of the other weights that are kept; passes of the slowest child.
    """
    lookup = np.full(problem.n_features, -1, dtype=np.int32)
    results = []
    for node, first, width in blocks:
        results.append(_train_block(node, first, width, problem, lookup))
    return results


@compiled
def _train_block(
    node: int, first: int, width: int, problem: Problem, lookup: Array
) -> tuple[Array, Array, Array, Array, int]:
    """Train the children `first` to ``first + width - 1`` of one node."""
    names = problem.members[problem.member_indptr[node] : problem.member_indptr[node + 1]]
    indptr, indices, values, features = _local_rows(names, problem, lookup)
    rows = (indptr, indices, values, problem.curvature[names], problem.diagonal[names])
    weights = np.zeros((len(features) + 1, width), dtype=np.float32)
    trained = np.empty_like(weights)
    alpha = np.zeros((len(names), width), dtype=np.float32)
    columns, place = np.arange(width), np.arange(width)
    positives = _positives(names, first, place, problem)
    low, high = np.empty(width, dtype=np.float32), np.empty(width, dtype=np.float32)
    order, is_open = np.arange(len(names)), np.ones(width, dtype=np.bool_)
    state = np.uint64(problem.seed + 7919 * node) * np.uint64(2) + np.uint64(1)
    for n_iter in range(1, problem.max_iter + 1):
        state = _shuffle(order, state)
        _epoch(order, rows, positives, weights, alpha, low, high, problem.loss)
        is_done = is_open & ((high - low <= problem.tol) | (n_iter == problem.max_iter))
        # Weights are copied at once, so that no child depends on the others of its block.
        done = np.flatnonzero(is_done)
        for f in range(len(weights)):
            for c in done:
                trained[f, columns[c]] = weights[f, c]
        is_open &= ~is_done
        still = np.flatnonzero(is_open)
        if len(still) == 0:
            break
        if len(columns) - len(still) < DONE_SHARE * len(columns):
            continue
        columns, weights, alpha = columns[still], weights[:, still], alpha[:, still]
        place[:] = -1
        place[columns] = np.arange(len(still))
        positives = _positives(names, first, place, problem)
        low, high, is_open = low[still], high[still], is_open[still]
    kept = np.flatnonzero(np.abs(trained[:-1]) >= problem.prune)
    children = (kept % width).astype(np.int32)
    return trained[-1].copy(), features[kept // width], children, trained.ravel()[kept], n_iter


@compiled
def _local_rows(names: Array, problem: Problem, lookup: Array) -> tuple[Array, Array, Array, Array]:
    """Return rows as CSR arrays with features numbered in the order of their first use.

    The last array holds these features; `lookup` holds -1 before and after.
    """
    indptr = np.zeros(len(names) + 1, dtype=np.int64)
    for i in range(len(names)):
        length = problem.indptr[names[i] + 1] - problem.indptr[names[i]]
        indptr[i + 1] = indptr[i] + length
    indices = np.empty(indptr[-1], dtype=np.int32)
    values = np.empty(indptr[-1], dtype=np.float32)
    features = np.empty(min(indptr[-1], len(lookup)), dtype=np.int32)
    n, at = 0, 0
    for i in names:
        for e in range(problem.indptr[i], problem.indptr[i + 1]):
            feature = problem.indices[e]
            if lookup[feature] < 0:
                lookup[feature] = n
                features[n] = feature
                n += 1
            indices[at], values[at] = lookup[feature], problem.values[e]
            at += 1
    lookup[features[:n]] = -1
    return indptr, indices, values, features[:n]


@compiled
def _positives(
    names: Array, first: int, place: Array, problem: Problem
) -> tuple[Array, Array, Array]:
    """Return (indptr, place, diagonal) of the positive children of every row within a block."""
    indptr = np.zeros(len(names) + 1, dtype=np.int64)
    room = 0
    for i in names:
        room += problem.node_indptr[i + 1] - problem.node_indptr[i]
    places = np.empty(room, dtype=np.int64)
    diagonals = np.empty(room, dtype=np.float32)
    at = 0
    for i in range(len(names)):
        for e in range(problem.node_indptr[names[i]], problem.node_indptr[names[i] + 1]):
            node = problem.nodes[e]
            if first <= node < first + len(place) and place[node - first] >= 0:
                places[at] = place[node - first]
                diagonals[at] = problem.diagonal[names[i]] / problem.factor[node]
                at += 1
        indptr[i + 1] = at
    return indptr, places[:at], diagonals[:at]


@compiled
def _epoch(
    order: Array,
    rows: tuple[Array, ...],
    positives: tuple[Array, Array, Array],
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


@compiled
def _shuffle(order: Array, state: np.uint64) -> np.uint64:
    """Shuffle `order` in place with a xorshift generator; return its next state."""
    for i in range(len(order) - 1, 0, -1):
        state ^= state << np.uint64(13)
        state ^= state >> np.uint64(7)
        state ^= state << np.uint64(17)
        j = int((state >> np.uint64(32)) * np.uint64(i + 1) >> np.uint64(32))
        order[i], order[j] = order[j], order[i]
    return state


@compiled
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


@compiled
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
