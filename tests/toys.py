"""A small estimator with everything the base class offers, and small data for contract tests."""

import inspect
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import HashingVectorizer

from skxc import DualEncoderXC, FusionXC, LabelGraphXC, LinearTreeXC
from skxc._label_side import EmbeddingMixin, LabelSideXC, NewLabelsMixin
from skxc.base import Model, TrainingSet, of_model, params
from skxc.estimators import all_estimators
from skxc.utils._sparse import normalize_rows, top_k


def vectors_of(X):
    """Return samples or labels as dense rows of length one."""
    if not sp.issparse(X):
        X = sp.csr_array(HashingVectorizer(n_features=64).transform(X))
    return normalize_rows(X.astype(np.float64).toarray())


@dataclass(frozen=True, eq=False)
class CentroidModel(Model):
    """One vector per label."""

    vectors: np.ndarray
    data: TrainingSet | None = None

    @property
    def n_labels(self):
        return len(self.vectors)

    def queries(self, X):
        return vectors_of(X)

    def search(self, queries, k):
        # Not a matrix product: its rounding would depend on how many rows are asked at once.
        scores = (queries[:, None, :] * self.vectors[None]).sum(axis=2)
        return top_k(scores.astype(np.float32), k)

    def embed(self, X):
        return vectors_of(X).astype(np.float32)

    def with_labels(self, features):
        return replace(self, vectors=np.concatenate([self.vectors, vectors_of(features)]))


@params
class CentroidXC(EmbeddingMixin, NewLabelsMixin, LabelSideXC):
    """A label is the sum of its training rows and its features, smoothed by the graph."""

    _accepts_texts = True

    label_vectors_ = of_model("vectors", "One vector per label.")

    def _train(self, fit):
        data = fit.data
        weighted = data.y.T.multiply(data.sample_weight).tocsr()
        vectors = weighted @ vectors_of(data.X)
        if data.label_features is not None:
            vectors = vectors + vectors_of(data.label_features)
        if data.graph is not None:
            vectors = vectors + 0.5 * (data.graph.to_csr() @ vectors)
        return CentroidModel(normalize_rows(vectors))


@params
class SampleGraphXC(CentroidXC):
    """Records the training data; takes a graph with one row per sample."""

    __metadata_request__fit = {"sample_graph": True}

    data_ = of_model("data", "The training data.")

    def fit(
        self,
        X,
        y,
        *,
        graph=None,
        sample_graph=None,
        label_features=None,
        groups=None,
        sample_weight=None,
    ):
        return self._fit(
            X,
            y,
            graph=graph,
            sample_graph=sample_graph,
            label_features=label_features,
            groups=groups,
            sample_weight=sample_weight,
        )

    def _train(self, fit):
        return replace(super()._train(fit), data=fit.data)


ESTIMATORS = [estimator for _, estimator in all_estimators()] + [CentroidXC]


def takes_labels(estimator):
    """Whether the estimator has a label side."""
    return "graph" in inspect.signature(estimator.fit).parameters


WITH_LABEL_SIDE = [estimator for estimator in ESTIMATORS if takes_labels(estimator)]


def make(estimator, **params):
    """Return an estimator that fits in a moment."""
    quick = {"n_epochs": 2, "random_state": 0}
    if estimator is LabelGraphXC:  # so many in each of three stages
        quick["n_epochs"] = 1
    if estimator is FusionXC:
        quick["estimators"] = [("tree", LinearTreeXC()), ("dual", DualEncoderXC(n_epochs=2))]
    known = estimator().get_params(deep=False)
    quick = {name: value for name, value in quick.items() if name in known}
    return estimator(**(quick | params))


def small_data(n=30, n_labels=12, n_features=16, seed=0):
    """Return (X, y, graph): rows near the sum of the vectors of their 1-3 labels."""
    rng = np.random.default_rng(seed)
    labels = rng.normal(size=(n_labels, n_features))
    y = np.zeros((n, n_labels), dtype=np.int64)
    for row in range(n):
        y[row, rng.choice(n_labels, size=min(n_labels, rng.integers(1, 4)), replace=False)] = 1
    X = np.abs(y @ labels + 0.1 * rng.normal(size=(n, n_features))).astype(np.float32)
    graph = sp.csr_array((rng.random((n_labels, n_labels)) < 0.05).astype(np.float32))
    return sp.csr_array(X), sp.csr_array(y), graph


WORDS = ["wine", "grape", "red", "white", "deep", "learning", "machine", "tree", "oak", "barrel"]


def small_texts(n=30, n_labels=12, seed=0):
    """Return (texts, y, label_texts): a text holds the words of its labels."""
    rng = np.random.default_rng(seed)
    label_texts = [" ".join(rng.choice(WORDS, size=2, replace=False)) for _ in range(n_labels)]
    y = np.zeros((n, n_labels), dtype=np.int64)
    for row in range(n):
        y[row, rng.choice(n_labels, size=rng.integers(1, 3), replace=False)] = 1
    texts = [" ".join(label_texts[label] for label in np.flatnonzero(row)) for row in y]
    return [f"{text} {i}x" for i, text in enumerate(texts)], sp.csr_array(y), label_texts


def dense(answer):
    """Return a sparse or dense answer as an array."""
    return answer.toarray() if sp.issparse(answer) else np.asarray(answer)


def assert_same_model(first, second, X):
    """Fail unless two fitted estimators give the same answers, bit for bit."""
    for method in ("decision_function", "predict_proba"):
        np.testing.assert_array_equal(
            dense(getattr(first, method)(X)), dense(getattr(second, method)(X))
        )
