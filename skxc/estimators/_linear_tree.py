"""One-vs-all linear classifiers over balanced label trees.

1. A label is the sum of its rows (skxc/linear/_vectors.py).
2. Similar labels become siblings (skxc/linear/_tree.py).
3. Every node learns to tell its rows from those of its siblings (skxc/linear/_solver.py).
4. A search follows the most probable nodes to the labels (skxc/linear/_search.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from skxc._label_side import LabelSideXC
from skxc._model import Reasons
from skxc._params import NonNegativeFloat, PositiveFloat, PositiveInt, params
from skxc.base import Fit, Model, TrainingSet, of_model
from skxc.labels import LabelGraph
from skxc.linear import (
    ChunkedWeights,
    LabelTree,
    Solver,
    grow_trees,
    label_vectors,
    score_pairs,
    search,
    train_trees,
    unit_rows,
    vectorize_one,
    way_to,
)
from skxc.linear._solver import LOSSES
from skxc.metrics import inverse_propensity
from skxc.utils._sparse import TopK
from skxc.utils._validation import canonical_csr

# Up to so many rows, a second training with the rows held out for calibration costs little.
CHEAP_SAMPLES = 10_000


@dataclass(frozen=True, eq=False)
class LinearTreeModel(Model):
    """Weights of label trees, and how they are searched.

    Attributes
    ----------
    weights : ChunkedWeights
    loss : str
        The loss that the weights were trained with.
    n_iter : int
        Passes that the slowest classifier needed.
    beam_width : int
        Number of nodes that a search follows per level and tree.
    n_jobs : int or None
        Number of threads.
    """

    weights: ChunkedWeights
    loss: str
    n_iter: int
    beam_width: int
    n_jobs: int | None

    @property
    def n_labels(self) -> int:
        """Largest label that has a leaf, plus one."""
        return self.weights.n_labels

    def _check_loaded(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"`loss` must be one of {list(LOSSES)}, but is {self.loss!r}")

    def search(self, queries: sp.csr_array, k: int) -> TopK:
        """Return the best labels by beam search, with their log-probabilities."""
        width, n_jobs = self.beam_width, effective_n_jobs(self.n_jobs)
        return search(self.weights, queries, k, beam_width=width, loss=self.loss, n_jobs=n_jobs)

    def score_pairs(self, queries: sp.csr_array, rows: Any, labels: Any) -> NDArray[np.float32]:
        """Return the log-probabilities of labels, whether a beam would reach them or not."""
        return score_pairs(self.weights, queries, rows, labels, loss=self.loss)

    def reasons(self, query: sp.csr_array, label: int) -> Reasons:
        """Return the log-probabilities on the way to the label, and the weights of its features."""
        terms, features, weights = way_to(self.weights, query, label, loss=self.loss)
        return Reasons(terms or {"score": self._score(query, label)}, features, weights)


@params
class LinearTreeXC(LabelSideXC):
    """Linear classifiers over balanced label trees, for sparse features or raw texts.

    Labels are clustered into a tree by the rows that they occur in. Every inner node and every
    label gets a linear classifier, which is trained on the rows with a label below its parent. The
    probability of a label is the product of those on its path; a beam search finds the best ones.
    Training and search are compiled by numba when they are first used, which takes some twenty
    seconds once per machine.

    Without a `vectorizer`, texts become features by
    ``TfidfVectorizer(sublinear_tf=True, dtype=np.float32)``. In the tree, labels that are linked in
    `graph` come close to each other.

    Parameters
    ----------
    loss : {"squared_hinge", "logistic"}, default="squared_hinge"
        Loss of the classifiers. The logistic loss keeps more small weights and is slower.
    C : float, default=0.5
        Weight of the losses against the squared norm of the weights.
    tree : LabelTree, default=None
        How labels are arranged in trees; None means ``LabelTree()``.
    solver : Solver, default=None
        How long classifiers are trained, and which weights are kept; None means ``Solver()``.
    beam_width : int, default=10
        Number of nodes that a search follows per level, or more where `top_k` needs it. It may be
        changed after `fit`.
    label_weight : float, default=0.2
        Weight of the rows that are made of the labels' own features, one per label. Through them
        labels without training rows can be found. Needs `label_features`.
    propensity_power : float, default=1.0
        Positive rows of a label count (w / min w)^power times as much as negative ones, where w is
        the inverse propensity of the label. Larger values favour rare labels; 0 treats all alike.
    n_jobs : int, default=None
        Number of threads. Results do not depend on it, and it may be changed after `fit`.

    Attributes
    ----------
    weights_ : ChunkedWeights
        Weights of all trees.
    n_iter_ : int
        Passes that the slowest classifier needed.
    model_ : LinearTreeModel
    classes_ : ndarray of shape (n_labels,)
        Column ids of the labels, or the class values of a 1-D ``y``.
    n_labels_ : int
        Number of labels.
    label_names_ : list of str or None
        Names of the labels, where ``y`` was a data frame.
    label_frequency_ : ndarray of shape (n_labels,)
        Weighted number of training rows of every label.
    n_samples_fit_ : int or float
        Weighted number of training rows.
    calibrator_ : TopKCalibrator
        Turns scores into probabilities.
    vectorizer_ : transformer
        The fitted vectoriser, where ``X`` holds texts.
    n_features_in_ : int
        Number of features, where ``X`` was a matrix.

    See Also
    --------
    skxc.KNeighborsXC : Needs no training.
    skxc.DualEncoderXC : Embeds samples and label texts, and finds rare labels better.

    Notes
    -----
    Rows are scaled to length one. Scores are logarithms of probabilities that are not calibrated;
    ``predict_proba`` is.

    References
    ----------
    Prabhu et al., "Parabel: Partitioned Label Trees for Extreme Classification with Application to
    Dynamic Search Advertising", WWW 2018; Yu et al., "PECOS: Prediction for Enormous and Correlated
    Output Spaces", JMLR 2022. Weights of positive rows by propensity: Jain et al., "Extreme
    Multi-label Loss Functions for Recommendation, Tagging, Ranking & Other Missing Label
    Applications", KDD 2016.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from skxc import LinearTreeXC
    >>> texts = ["red wine", "white wine", "deep learning", "machine learning"]
    >>> y = sp.csr_array([[1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]])
    >>> tree = LinearTreeXC(random_state=0).fit(texts, y)
    >>> tree.predict_labels(["wine of red grapes", "learning"], k=1)
    [[0], [2]]
    """

    loss: Literal["squared_hinge", "logistic"] = "squared_hinge"
    C: PositiveFloat = 0.5
    tree: LabelTree | None = None
    solver: Solver | None = None
    beam_width: PositiveInt = 10
    label_weight: NonNegativeFloat = 0.2
    propensity_power: NonNegativeFloat = 1.0
    n_jobs: int | None = None

    weights_ = of_model("weights", "Weights of all trees.")
    n_iter_ = of_model("n_iter", "Passes that the slowest classifier needed.")

    _accepts_texts: ClassVar[bool] = True
    _search_parameters: ClassVar[tuple[str, ...]] = ("beam_width",)

    def _default_vectorizer(self) -> Any:
        return TfidfVectorizer(sublinear_tf=True, dtype=np.float32)

    def _vectorize(self, vectorizer: Any, texts: NDArray[np.object_]) -> sp.csr_array:
        row = vectorize_one(vectorizer, texts[0]) if len(texts) == 1 else None
        return super()._vectorize(vectorizer, texts) if row is None else canonical_csr(row)

    def _refits(self, n_samples: int) -> bool:
        return n_samples < CHEAP_SAMPLES

    def _train(self, fit: Fit) -> LinearTreeModel:
        data: TrainingSet = fit.data
        X, y, weight = unit_rows(data.X), data.y, data.sample_weight
        Z = None if data.label_features is None else unit_rows(data.label_features)
        with_label_rows = Z is not None and self.label_weight > 0
        # Without rows of their own features, labels that have no row cannot be found.
        labels = np.arange(data.n_labels) if with_label_rows else np.unique(y.indices)
        graph = data.graph.to_csr() if isinstance(data.graph, LabelGraph) else None
        vectors = partial(label_vectors, X, y, weight, label_features=Z, graph=graph)
        trees = grow_trees(self._part("tree"), labels.astype(np.int64), vectors, fit.seed)
        if with_label_rows:
            rows = data.with_label_rows(self.label_weight)
            X, y, weight = unit_rows(rows.X), rows.y, rows.sample_weight
        weights, n_iter = train_trees(
            trees,
            X,
            y,
            sample_weight=weight,
            label_weight=self._label_factors(data),
            loss=self.loss,
            C=self.C,
            solver=self._part("solver"),
            n_jobs=effective_n_jobs(self.n_jobs),
        )
        return LinearTreeModel(weights, self.loss, n_iter, self.beam_width, self.n_jobs)

    def _label_factors(self, data: TrainingSet) -> NDArray[np.float32]:
        """Return the factors of C of the positive rows of every label."""
        # The formula needs at least three rows.
        n_samples = max(3, data.sample_weight.sum())
        factor = inverse_propensity(data.label_frequency, n_samples)
        factor = (factor / factor.min()) ** self.propensity_power
        return factor.astype(np.float32)

    def _current(self, model: LinearTreeModel) -> LinearTreeModel:
        beam_width = max(self.beam_width, -(-self.top_k // model.weights.smallest_leaf))
        return replace(model, beam_width=beam_width, n_jobs=self.n_jobs)
