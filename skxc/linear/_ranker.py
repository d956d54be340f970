"""One linear classifier per label, trained and asked on given candidates only.

A label's classifier is trained on the rows that have the label (positives) and on those that
another model took for having it (negatives): what it has to tell apart when it re-ranks that
model's answers. It minimises over w (with a constant feature)

    1/2 |w|^2 + C sum_i weight_i max(0, 1 - t_i w.x_i)^2

by dual coordinate descent. A row is a block of columns that all rows store, such as an embedding,
and the rest, in CSR: the block needs no column ids, and several of its numbers fit one instruction.

Sources: the sparse ranker of ELIAS++ (NeurIPS 2022), which follows PECOS (JMLR 2022); Hsieh et al.,
"A Dual Coordinate Descent Method for Large-scale Linear SVM", ICML 2008, algorithm 1.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numba
import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skxc.linear._solver import _shuffle
from skxc.linear._vectors import unit_rows
from skxc.utils._sparse import pack_topk, rank_rows

Array = NDArray[Any]

# Sums may be taken in another order, which lets the compiler use wide registers.
_compiled = numba.njit(
    nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"}
)


class SparseRanker(BaseEstimator):
    """Linear classifiers that re-rank candidates.

    Parameters
    ----------
    C : float, default=1.0
        Weight of the losses against the squared norm of the weights.
    n_negatives : int, default=100
        Best candidates of every row that take part in training.
    label_weight : float, default=0.2
        Weight of the rows that are made of the labels' own features, one positive row per label.
        Needs ``label_features``.
    tol : float, default=0.1
        A classifier is trained until its projected gradients lie within this range.
    max_iter : int, default=20
        Largest number of passes over the rows of a label.
    prune : float, default=0.05
        Weights of a smaller absolute value are dropped after training.
    random_state : int, default=0
        Decides the order in which rows are visited.

    Attributes
    ----------
    weights_ : csr_array of float32, shape (n_labels, n_features)
    bias_ : ndarray of float32, shape (n_labels,)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "C": [Interval(Real, 0, None, closed="neither")],
        "n_negatives": [Interval(Integral, 1, None, closed="left")],
        "label_weight": [Interval(Real, 0, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "prune": [Interval(Real, 0, None, closed="left")],
        "random_state": [Integral],
    }

    def __init__(
        self,
        *,
        C: float = 1.0,
        n_negatives: int = 100,
        label_weight: float = 0.2,
        tol: float = 0.1,
        max_iter: int = 20,
        prune: float = 0.05,
        random_state: int = 0,
    ) -> None:
        self.C = C
        self.n_negatives = n_negatives
        self.label_weight = label_weight
        self.tol = tol
        self.max_iter = max_iter
        self.prune = prune
        self.random_state = random_state

    def fit(
        self,
        X: sp.csr_array,
        y: sp.csr_array,
        *,
        candidates: sp.csr_array,
        label_features: sp.csr_array | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> SparseRanker:
        """Train the classifiers.

        Parameters
        ----------
        X : csr_array of shape (n, n_features)
            Rows; scaled to length one here.
        y : csr_array of shape (n, n_labels)
        candidates : csr_array of shape (n, n_labels)
            Scores of another model; the best pairs are trained on, beside those of `y`.
        label_features : csr_array of shape (n_labels, n_features), default=None
            Rows of the labels themselves.
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        self
        """
        self._validate_params()
        n, n_labels = y.shape
        weight = np.ones(n) if sample_weight is None else np.asarray(sample_weight)
        hard = pack_topk(*rank_rows(sp.csr_array(candidates), self.n_negatives), n_labels)
        pairs = sp.csr_array(_filled(hard, 1) + _filled(y, 2))
        if label_features is not None and self.label_weight > 0:
            own = _filled(sp.eye_array(n_labels, format="csr"), 2)
            pairs = sp.vstack([pairs, own], format="csr")
            X = sp.vstack([X, label_features], format="csr")
            weight = np.concatenate([weight, np.full(n_labels, self.label_weight)])
        pairs = sp.csc_array(pairs)
        keep = np.flatnonzero(np.bincount(y.indices, minlength=n_labels))
        weights, bias = _train_labels(
            *_split(unit_rows(sp.csr_array(X))),
            X.shape[1],
            keep,
            (pairs.indptr.astype(np.int64), pairs.indices.astype(np.int64), pairs.data >= 2),
            (0.5 / (self.C * weight)).astype(np.float32),
            (np.float32(self.tol), self.max_iter, np.float32(self.prune), int(self.random_state)),
        )
        indptr, columns, values = weights
        # A label without training rows is never better than one with.
        self.bias_ = np.full(n_labels, -1.0, dtype=np.float32)
        self.bias_[keep] = bias
        starts = np.zeros(n_labels + 1, dtype=np.int64)
        starts[keep + 1] = np.diff(indptr)
        self.weights_ = sp.csr_array(
            (values, columns, np.cumsum(starts)), shape=(n_labels, X.shape[1])
        )
        self.weights_.sort_indices()
        return self

    def decision_function(self, X: sp.csr_array, *, candidates: sp.csr_array) -> sp.csr_array:
        """Return the margins of the candidates.

        Parameters
        ----------
        X : csr_array of shape (n, n_features)
        candidates : csr_array of shape (n, n_labels)

        Returns
        -------
        csr_array of float32, shape (n, n_labels)
            Stored where `candidates` is.
        """
        check_is_fitted(self)
        X, weights = unit_rows(sp.csr_array(X)), self.weights_
        margins = _margins(
            (X.indptr, X.indices, X.data),
            (weights.indptr, weights.indices, weights.data),
            self.bias_,
            X.shape[1],
            candidates.indptr,
            candidates.indices,
        )
        parts = (margins, candidates.indices, candidates.indptr)
        return sp.csr_array(parts, shape=candidates.shape)


def _filled(matrix: sp.csr_array, value: int) -> sp.csr_array:
    """Return the structure of a matrix with one value."""
    data = np.full(matrix.nnz, value, dtype=np.int8)
    return sp.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _split(X: sp.csr_array) -> tuple[Array, tuple[Array, Array, Array]]:
    """Return the leading columns that all rows store as an array, and the rest as CSR arrays."""
    X.sort_indices()
    shortest = int(np.diff(X.indptr).min(initial=X.shape[1]))
    leading = X.indices[X.indptr[:-1, None] + np.arange(shortest)] == np.arange(shortest)
    n_block = int(np.cumprod(leading.all(axis=0)).sum())
    block, rest = X[:, :n_block].toarray(), sp.csr_array(X[:, n_block:])
    indices = rest.indices.astype(np.int32) + np.int32(n_block)
    return block, (rest.indptr.astype(np.int64), indices, rest.data.astype(np.float32))


@_compiled
def _margin(w: Array, block: Array, indices: Array, values: Array) -> np.float32:
    """Return w . x of one row, plus the last weight, that of the constant feature."""
    total = w[-1]
    for j in range(len(block)):
        total += w[j] * block[j]
    for e in range(len(indices)):
        total += w[indices[e]] * values[e]
    return total


@_compiled
def _add(w: Array, step: np.float32, block: Array, indices: Array, values: Array) -> None:
    """Add a multiple of one row to w."""
    w[-1] += step
    for j in range(len(block)):
        w[j] += step * block[j]
    for e in range(len(indices)):
        w[indices[e]] += step * values[e]


@_compiled
def _train_label(
    w: Array,
    block: Array,
    rest: tuple[Any, ...],
    rows: Array,
    is_positive: Array,
    diagonal: Array,
    settings: tuple[Any, ...],
    state: np.uint64,
) -> np.uint64:
    """Solve one label's problem into w, which is zero; return the next state of the shuffle."""
    indptr, indices, values = rest
    tol, max_iter = settings[0], settings[1]
    alpha = np.zeros(len(rows), dtype=np.float32)
    order = np.arange(len(rows))
    for _ in range(max_iter):
        state = _shuffle(order, state)
        low, high = np.float32(np.inf), np.float32(-np.inf)
        for i in order:
            row = rows[i]
            part = slice(indptr[row], indptr[row + 1])
            x = block[row], indices[part], values[part]
            sign = np.float32(1) if is_positive[i] else np.float32(-1)
            curvature = np.float32(1) + diagonal[row]
            for value in x[0]:
                curvature += value * value
            for value in x[2]:
                curvature += value * value
            gradient = sign * _margin(w, *x) - np.float32(1) + alpha[i] * diagonal[row]
            projected = gradient if alpha[i] > 0 else min(gradient, np.float32(0))
            low, high = min(low, projected), max(high, projected)
            new = max(alpha[i] - gradient / curvature, np.float32(0))
            if new != alpha[i]:
                _add(w, (new - alpha[i]) * sign, *x)
                alpha[i] = new
        if high - low <= tol:
            break
    return state


@_compiled
def _move(w: Array, feature: int, prune: float, columns: Array, values: Array, n: int) -> int:
    """Move a weight behind the n others if it is large enough; return how many there are."""
    if w[feature] != 0 and abs(w[feature]) >= prune:
        columns[n], values[n] = feature, w[feature]
        n += 1
    w[feature] = 0
    return n


@_compiled
def _train_labels(
    block: Array,
    rest: tuple[Any, ...],
    n_features: int,
    labels: Array,
    pairs: tuple[Any, ...],
    diagonal: Array,
    settings: tuple[Any, ...],
) -> tuple[Any, ...]:
    """Train the given labels; return their weights as CSR arrays, and their biases."""
    starts, rows, is_positive = pairs
    w = np.zeros(n_features + 1, dtype=np.float32)
    bias = np.empty(len(labels), dtype=np.float32)
    indptr = np.zeros(len(labels) + 1, dtype=np.int64)
    columns, values = np.empty(1024, dtype=np.int32), np.empty(1024, dtype=np.float32)
    state = np.uint64(settings[3]) * np.uint64(2) + np.uint64(0x9E3779B97F4A7C15)
    n = 0
    for at in range(len(labels)):
        part = slice(starts[labels[at]], starts[labels[at] + 1])
        state = _train_label(
            w, block, rest, rows[part], is_positive[part], diagonal, settings, state
        )
        bias[at], w[-1] = w[-1], 0
        room = block.shape[1]
        for row in rows[part]:
            room += rest[0][row + 1] - rest[0][row]
        if n + room > len(columns):
            room = max(room, len(columns) // 2)
            columns = np.concatenate((columns, np.empty(room, dtype=np.int32)))
            values = np.concatenate((values, np.empty(room, dtype=np.float32)))
        for feature in range(block.shape[1]):
            n = _move(w, feature, settings[2], columns, values, n)
        for row in rows[part]:
            for e in range(rest[0][row], rest[0][row + 1]):
                n = _move(w, rest[1][e], settings[2], columns, values, n)
        indptr[at + 1] = n
    return (indptr, columns[:n].copy(), values[:n].copy()), bias


@_compiled
def _margins(
    rows: tuple[Any, ...],
    weights: tuple[Any, ...],
    bias: Array,
    n_features: int,
    indptr: Array,
    labels: Array,
) -> Array:
    """Return w_l . x + b_l of every (row, label) pair in the order of the candidates."""
    x_indptr, x_indices, x_values = rows
    w_indptr, w_indices, w_values = weights
    spread = np.zeros(n_features, dtype=np.float32)
    margins = np.empty(len(labels), dtype=np.float32)
    for i in range(len(indptr) - 1):
        for e in range(x_indptr[i], x_indptr[i + 1]):
            spread[x_indices[e]] = x_values[e]
        for pair in range(indptr[i], indptr[i + 1]):
            total = bias[labels[pair]]
            for e in range(w_indptr[labels[pair]], w_indptr[labels[pair] + 1]):
                total += w_values[e] * spread[w_indices[e]]
            margins[pair] = total
        for e in range(x_indptr[i], x_indptr[i + 1]):
            spread[x_indices[e]] = 0
    return margins
