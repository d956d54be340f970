"""A shallow decision tree over scores, kept as arrays, which save and load like any others."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.tree import DecisionTreeClassifier


class ScoreTree(BaseEstimator):
    """Probability of relevance from a few scores of a (sample, label) pair.

    Parameters
    ----------
    max_depth : int, default=7
        Depth of the tree; 7 in NGAME.
    random_state : int, default=0

    References
    ----------
    Dahiya et al., "NGAME", WSDM 2023, score fusion. There the tree is fitted on training rows,
    where classifier scores are optimistic; give held-out rows instead.
    """

    def __init__(self, *, max_depth: int = 7, random_state: int = 0) -> None:
        self.max_depth = max_depth
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> ScoreTree:
        """Grow the tree.

        Parameters
        ----------
        X : array-like of shape (n_pairs, n_scores)
        y : array-like of bool, shape (n_pairs,)

        Returns
        -------
        self
        """
        tree = DecisionTreeClassifier(
            max_depth=self.max_depth, min_samples_leaf=20, random_state=self.random_state
        ).fit(X, np.asarray(y, dtype=bool))
        grown = tree.tree_
        self.left_, self.right_ = grown.children_left, grown.children_right
        self.feature_, self.threshold_ = grown.feature, grown.threshold
        share = grown.value[:, 0] / grown.value[:, 0].sum(axis=1, keepdims=True)
        # With one class only, there is no column for the other one.
        self.probability_ = share @ tree.classes_.astype(np.float64)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return the share of relevant pairs in the leaf of each pair.

        Parameters
        ----------
        X : array-like of shape (n_pairs, n_scores)

        Returns
        -------
        ndarray of float32, shape (n_pairs,)
        """
        X = np.asarray(X, dtype=np.float32)
        node = np.zeros(len(X), dtype=np.int64)
        for _ in range(self.max_depth):
            inner = self.left_[node] >= 0
            value = X[np.arange(len(X)), np.where(inner, self.feature_[node], 0)]
            below = np.where(value <= self.threshold_[node], self.left_[node], self.right_[node])
            node = np.where(inner, below, node)
        return self.probability_[node].astype(np.float32)
