"""A nearest-neighbour vote with the attributes that scorers read; needs none of the package."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, ClassifierMixin


class TinyXC(ClassifierMixin, BaseEstimator):
    """Score labels by the dot products with the nearest training rows; CSR in, CSR out.

    `fits` and `predictions` count calls in this process; the arguments of `fit` stay as `seen_`.
    """

    __metadata_request__fit = {"graph": True, "sample_graph": True}
    fits = 0
    predictions = 0

    def __init__(self, *, n_neighbors=3, graph=None):
        self.n_neighbors = n_neighbors
        self.graph = graph

    def fit(self, X, y, *, graph=None, sample_graph=None, sample_weight=None):
        type(self).fits += 1
        graph = self.graph if graph is None else graph
        y = sp.csr_array(y).astype(np.float64)
        if graph is not None and graph.shape != (y.shape[1], y.shape[1]):
            raise ValueError(f"graph of shape {graph.shape} for {y.shape[1]} labels")
        weight = np.ones(y.shape[0]) if sample_weight is None else np.asarray(sample_weight)
        self.seen_ = {"graph": graph, "sample_graph": sample_graph, "weight": weight}
        self.X_, self.y_ = sp.csr_array(X), sp.csr_array(y.multiply(weight[:, None]))
        self.classes_ = np.arange(y.shape[1])
        self.label_frequency_ = np.bincount(y.indices, minlength=y.shape[1])
        self.n_samples_fit_ = y.shape[0]
        return self

    def decision_function(self, X):
        type(self).predictions += 1
        similarity = (sp.csr_array(X) @ self.X_.T).toarray()
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, : self.n_neighbors]
        votes = np.zeros_like(similarity)
        np.put_along_axis(votes, nearest, np.take_along_axis(similarity, nearest, 1), 1)
        scores = sp.csr_array(votes) @ self.y_
        scores.sort_indices()
        return scores

    def predict_proba(self, X):
        scores = self.decision_function(X)
        scores.data = 1 / (1 + np.exp(-scores.data))
        return scores

    def predict(self, X):
        proba = self.predict_proba(X)
        return sp.csr_array((proba.toarray() >= 0.5).astype(int))

    def predict_dense(self, X):
        return self.decision_function(X).toarray()


def tiny_data(n=40, n_labels=12, n_features=6, seed=0):
    """Return non-negative CSR features and a CSR indicator that depends on them; row 0 is empty."""
    rng = np.random.default_rng(seed)
    X = rng.random((n, n_features))
    logits = X @ rng.normal(size=(n_features, n_labels)) * 3
    y = (logits > np.quantile(logits, 0.8)).astype(int)
    y[0] = 0
    return sp.csr_array(X), sp.csr_array(y)
