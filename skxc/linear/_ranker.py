"""One linear classifier per label, trained and asked on given candidates only.

A label's classifier is trained on the rows that have the label (positives) and on those that
another model took for having it (negatives): what it has to tell apart when it re-ranks that
model's answers. The solver is that of the label trees, with one node per label.

Source: the sparse ranker of ELIAS++ (NeurIPS 2022), which follows PECOS (JMLR 2022).
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numba
import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skxc.linear._solver import LOSSES, train_blocks
from skxc.linear._train import csr_arrays
from skxc.linear._vectors import unit_rows

Array = NDArray[Any]


class SparseRanker(BaseEstimator):
    """Linear classifiers that re-rank candidates.

    Parameters
    ----------
    loss : {"squared_hinge", "logistic"}, default="squared_hinge"
    C : float, default=1.0
        Weight of the losses against the squared norm of the weights.
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
        "loss": [StrOptions({"squared_hinge", "logistic"})],
        "C": [Interval(Real, 0, None, closed="neither")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "prune": [Interval(Real, 0, None, closed="left")],
        "random_state": [Integral],
    }

    def __init__(
        self,
        *,
        loss: str = "squared_hinge",
        C: float = 1.0,
        tol: float = 0.1,
        max_iter: int = 20,
        prune: float = 0.05,
        random_state: int = 0,
    ) -> None:
        self.loss = loss
        self.C = C
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
        sample_weight: ArrayLike | None = None,
    ) -> SparseRanker:
        """Train the classifiers.

        Parameters
        ----------
        X : csr_array of shape (n, n_features)
            Rows; scaled to length one here.
        y : csr_array of shape (n, n_labels)
        candidates : csr_array of shape (n, n_labels)
            The stored pairs are trained on, beside those of `y`.
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        self
        """
        self._validate_params()
        n, n_labels = y.shape
        weight = np.ones(n) if sample_weight is None else np.asarray(sample_weight)
        X = unit_rows(sp.csr_array(X))
        pairs = sp.csc_array(_ones(candidates) + _ones(y))
        trained = np.flatnonzero(np.bincount(y.indices, minlength=n_labels))
        blocks = np.stack([trained, trained, np.ones_like(trained)], axis=1)
        found = train_blocks(
            blocks,
            csr_arrays(X),
            X.shape[1],
            (self.C * weight).astype(np.float32),
            (y.indptr.astype(np.int64), y.indices.astype(np.int64)),
            (pairs.indptr.astype(np.int64), pairs.indices.astype(np.int64)),
            np.ones(n_labels, dtype=np.float32),
            (LOSSES[self.loss], np.float32(self.tol), self.max_iter, np.float32(self.prune),
             int(self.random_state)),
        )  # fmt: skip
        # A label without training rows is never better than one with.
        self.bias_ = np.full(n_labels, -1.0, dtype=np.float32)
        self.bias_[trained] = [bias[0] for bias, *_ in found]
        lengths = np.zeros(n_labels + 1, dtype=np.int64)
        lengths[trained + 1] = [len(values) for _, _, _, values, _ in found]
        features = np.concatenate([features for _, features, *_ in found])
        values = np.concatenate([values for _, _, _, values, _ in found])
        self.weights_ = sp.csr_array(
            (values, features, np.cumsum(lengths)), shape=(n_labels, X.shape[1])
        )
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
        X = unit_rows(sp.csr_array(X))
        margins = _margins(
            csr_arrays(X), csr_arrays(self.weights_), self.bias_, X.shape[1],
            candidates.indptr.astype(np.int64), candidates.indices,
        )  # fmt: skip
        parts = (margins, candidates.indices, candidates.indptr)
        return sp.csr_array(parts, shape=candidates.shape)


def _ones(matrix: sp.csr_array) -> sp.csr_array:
    """Return the structure of a matrix with ones."""
    ones = np.ones(matrix.nnz, dtype=np.float32)
    return sp.csr_array((ones, matrix.indices, matrix.indptr), shape=matrix.shape)


@numba.njit(nogil=True, cache=True, error_model="numpy")
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
