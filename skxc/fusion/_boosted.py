"""Gradient-boosted trees over candidate pairs, kept as arrays, which save and load like others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier

from skxc.utils._compiled import compiled
from skxc.utils._loaded import check_ids, check_number, sizes_of

# Trees of so many leaves are evaluated for so many pairs at once.
MOST_LEAVES, PAIRS_AT_ONCE = 64, 256
# Bins of a feature, the most that scikit-learn has.
N_BINS = 255
DE_BRUIJN, SHIFT = np.uint64(0x03F79D71B4CB0A89), np.uint64(58)


@compiled
def _add_trees(
    X: Any, feature: Any, threshold: Any, left: Any, right: Any, value: Any, total: Any
) -> None:
    """Add the values of the leaves that the pairs fall into, tree by tree."""
    for pair in range(len(X)):
        for tree in range(len(feature)):
            node = 0
            while left[tree, node] != node:
                goes_left = X[pair, feature[tree, node]] <= threshold[tree, node]
                node = left[tree, node] if goes_left else right[tree, node]
            total[pair] += value[tree, node]


@compiled
def _leaves_in_order(left: Any, right: Any) -> Any:
    """Return number and place of the leaves below every node, left to right; -1: not in the tree.

    The number stops at one more than `MOST_LEAVES`, where trees are too large for `_mask_trees`.
    """
    count = np.ones(left.shape, dtype=np.int64)
    place = np.full(left.shape, -1, dtype=np.int64)
    place[:, 0] = 0
    for tree in range(len(left)):
        for node in range(left.shape[1] - 1, -1, -1):  # children come behind their parent
            if left[tree, node] != node:
                below = count[tree, left[tree, node]] + count[tree, right[tree, node]]
                count[tree, node] = min(below, MOST_LEAVES + 1)
        for node in range(left.shape[1]):
            if place[tree, node] >= 0 and left[tree, node] != node:
                place[tree, left[tree, node]] = place[tree, node]
                place[tree, right[tree, node]] = place[tree, node] + count[tree, left[tree, node]]
    return count, place


@compiled
def _mask_trees(
    X: Any, feature: Any, threshold: Any, left: Any, value: Any, count: Any, place: Any, total: Any
) -> None:
    """Do what `_add_trees` does for trees of few leaves, without walks, many pairs at once.

    Every leaf has a bit. A node that sends a pair to the right clears the leaves on its left; what
    stays lowest is the leaf of the pair (QuickScorer, Lucchese et al., SIGIR 2015).
    """
    one = np.uint64(1)
    columns = np.empty((X.shape[1], PAIRS_AT_ONCE))
    alive = np.empty(PAIRS_AT_ONCE, dtype=np.uint64)
    values = np.zeros(64)
    for start in range(0, len(X), PAIRS_AT_ONCE):
        n = min(PAIRS_AT_ONCE, len(X) - start)
        for i in range(n):
            columns[:, i] = X[start + i]
        for tree in range(len(feature)):
            alive[:n] = ~np.uint64(0)
            for node in range(feature.shape[1]):
                if place[tree, node] < 0:
                    continue
                bit = one << np.uint64(place[tree, node] & 63)
                if left[tree, node] == node:
                    values[(bit * DE_BRUIJN) >> SHIFT] = value[tree, node]
                    continue
                n_left = np.uint64(count[tree, left[tree, node]] & 63)
                cleared = ~(((one << n_left) - one) * bit)
                column, at_most = columns[feature[tree, node]], threshold[tree, node]
                for i in range(n):
                    alive[i] &= cleared if column[i] > at_most else ~np.uint64(0)
            for i in range(n):
                lowest = alive[i] & (~alive[i] + one)
                # The top bits of this product tell which power of two it is.
                total[start + i] += values[(lowest * DE_BRUIJN) >> SHIFT]


def _cuts(column: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the upper ends of a feature's bins but the last, about equally heavy ones.

    As scikit-learn cuts them, which sorts a feature with weights anew for every cut: a quarter of
    the time of a fit.
    """
    column, weight = column[weight > 0], weight[weight > 0]
    order = np.argsort(column)
    values, below = column[order], np.cumsum(weight[order])
    distinct = values[np.flatnonzero(np.diff(values, prepend=-np.inf))]
    if len(distinct) <= N_BINS:
        return (distinct[1:] + distinct[:-1]) / 2
    wanted = np.linspace(0, 100, N_BINS + 1)[1:-1] / 100 * below[-1]
    place = np.minimum(np.searchsorted(below, wanted), len(values) - 1)
    after = np.minimum(place + 1, len(values) - 1)
    is_between = below[place] - wanted <= np.finfo(np.float64).eps
    return np.unique(np.where(is_between, (values[place] + values[after]) / 2, values[place]))


class BoostedTrees(BaseEstimator):
    """Log-odds of relevance from features of (row, label) pairs.

    scikit-learn grows the trees; only their nodes are kept, as arrays.

    Parameters
    ----------
    max_iter : int, default=60
        Number of trees.
    max_leaf_nodes : int, default=8
        Leaves of a tree.
    learning_rate : float, default=0.1
    min_samples_leaf : int, default=100
        Pairs in a leaf. Fewer than twice as many pairs grow no tree.
    l2_regularization : float, default=10.0

    Attributes
    ----------
    baseline_ : float
        Log-odds of all pairs together.
    feature_, left_, right_ : ndarray of int64, shape (n_trees, n_nodes)
        Split feature and children of every node; a leaf is its own child.
    threshold_, value_ : ndarray of float64, shape (n_trees, n_nodes)
        A pair goes left if its feature is at most the threshold.
    """

    def __init__(
        self,
        *,
        max_iter: int = 60,
        max_leaf_nodes: int = 8,
        learning_rate: float = 0.1,
        min_samples_leaf: int = 100,
        l2_regularization: float = 10.0,
    ) -> None:
        self.max_iter = max_iter
        self.max_leaf_nodes = max_leaf_nodes
        self.learning_rate = learning_rate
        self.min_samples_leaf = min_samples_leaf
        self.l2_regularization = l2_regularization

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> BoostedTrees:
        """Grow the trees.

        Parameters
        ----------
        X : array-like of shape (n_pairs, n_features)
        y : array-like of bool, shape (n_pairs,)
        sample_weight : array-like of shape (n_pairs,), optional

        Returns
        -------
        self
        """
        y = np.asarray(y, dtype=bool)
        weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, float)
        hits, misses = weight[y].sum(), weight[~y].sum()
        # Smoothed, so that it is finite where all pairs are alike and nothing can be grown.
        self.baseline_ = float(np.log((hits + 1) / (misses + 1)))
        self._keep([])
        if y.any() and not y.all() and len(y) >= 2 * self.min_samples_leaf:
            X = np.asarray(X, dtype=np.float64)
            cuts = [_cuts(column, weight) for column in X.T]
            bins = [np.searchsorted(c, column) for c, column in zip(cuts, X.T, strict=True)]
            grown = HistGradientBoostingClassifier(
                early_stopping=False, random_state=0, **self.get_params()
            ).fit(np.column_stack(bins), y, sample_weight=weight)
            self.baseline_ = float(grown._baseline_prediction.ravel()[0])
            trees = [step[0].nodes.copy() for step in grown._predictors]
            for nodes in trees:  # from numbers of bins to values
                for node in np.flatnonzero(nodes["is_leaf"] == 0):
                    cut = cuts[nodes["feature_idx"][node]][int(nodes["num_threshold"][node])]
                    nodes["num_threshold"][node] = cut
            self._keep(trees)
        return self

    def _keep(self, trees: list[NDArray]) -> None:
        """Store nodes of trees as padded arrays."""
        shape = (len(trees), max((len(nodes) for nodes in trees), default=1))
        own = np.broadcast_to(np.arange(shape[1]), shape)
        self.left_, self.right_ = own.copy(), own.copy()
        self.feature_ = np.zeros(shape, dtype=np.int64)
        self.threshold_, self.value_ = np.zeros(shape), np.zeros(shape)
        for number, nodes in enumerate(trees):
            inner, size = nodes["is_leaf"] == 0, len(nodes)
            self.left_[number, :size][inner] = nodes["left"][inner]
            self.right_[number, :size][inner] = nodes["right"][inner]
            self.feature_[number, :size] = np.where(inner, nodes["feature_idx"], 0)
            self.threshold_[number, :size] = nodes["num_threshold"]
            self.value_[number, :size] = nodes["value"]

    def _check_loaded(self) -> None:
        if not hasattr(self, "baseline_"):
            return
        arrays = ("feature_", "threshold_", "left_", "right_", "value_")
        n_nodes = sizes_of(self, **dict.fromkeys(arrays, "T N"))["N"]
        check_number("baseline_", self.baseline_)
        own = np.arange(n_nodes)
        # Children behind their parent: a walk from the root comes to an end.
        for name, children in (("left_", self.left_), ("right_", self.right_)):
            check_ids(name, children, n_nodes)
            check_ids(name, np.where(self.left_ == own, 1, children - own), n_nodes, first=1)
        check_ids("feature_", self.feature_, np.iinfo(np.int32).max)
        if any(getattr(self, name).dtype != np.int64 for name in ("feature_", "left_", "right_")):
            raise ValueError("`feature_`, `left_` and `right_` must be int64")

    def log_odds(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the log-odds of relevance.

        Parameters
        ----------
        X : array-like of shape (n_pairs, n_features)
            Finite.

        Returns
        -------
        ndarray of float64, shape (n_pairs,)
        """
        X = np.ascontiguousarray(X, dtype=np.float64)
        total = np.full(len(X), self.baseline_)
        feature, threshold, left, value = self.feature_, self.threshold_, self.left_, self.value_
        count, place = _leaves_in_order(left, self.right_)
        if count.size and count[:, 0].max() <= MOST_LEAVES:
            _mask_trees(X, feature, threshold, left, value, count, place, total)
        else:
            _add_trees(X, feature, threshold, left, self.right_, value, total)
        return total
