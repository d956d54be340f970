"""One-vs-all linear classifiers over balanced label trees.

1. A label is the sum of its rows (skxc/linear/_vectors.py).
2. Similar labels become siblings (skxc/linear/_tree.py).
3. Every node learns to tell its rows from those of its siblings (skxc/linear/_solver.py).
4. A search follows the most probable nodes to the labels (skxc/linear/_chunks.py).
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils._param_validation import Interval, StrOptions

from skxc.base import BaseXC, Features, TrainingSet
from skxc.labels import LabelGraph
from skxc.linear import (
    LabelTree,
    Solver,
    TreeTrainer,
    build_tree,
    flat_tree,
    join_models,
    label_vectors,
    search,
    unit_rows,
    vectorize_one,
)
from skxc.metrics import inverse_propensity
from skxc.utils._random import root_seed, stream
from skxc.utils._sparse import TopK
from skxc.utils._validation import as_csr

# Up to so many labels, one-vs-all without a tree is more accurate and about as quick.
FLAT_LABELS = 1000
# Up to so many rows, a second training with the rows held out for calibration costs little.
CHEAP_SAMPLES = 10_000


class LinearTreeXC(BaseXC):
    """Linear classifiers over balanced label trees, for sparse features or raw texts.

    Labels are clustered into a tree by the rows that they occur in. Every inner node and every
    label gets a linear classifier, which is trained on the rows with a label below its parent. The
    probability of a label is the product of those on its path; a beam search finds the best ones.
    Training and search are compiled by numba when they are first used, which takes some twenty
    seconds once per machine.

    Parameters
    ----------
    loss : {"squared_hinge", "logistic"}, default="squared_hinge"
        Loss of the classifiers. The logistic loss keeps more small weights and is slower.
    C : float, default=0.5
        Weight of the losses against the squared norm of the weights.
    tol : float, default=0.1
        A classifier is trained until its projected gradients lie within this range.
    max_iter : int, default=30
        Largest number of passes over the rows of a node.
    prune : float, default=0.1
        Weights of a smaller absolute value are dropped after training.
    n_trees : int, default=1
        Number of trees with different random starts, whose probabilities are averaged. Without a
        tree (see `flat`) it has no effect.
    max_leaf_size : int, default=100
        Largest number of labels that are siblings.
    branching : int, default=16
        About how many children the nodes above have; rounded to powers of two.
    beam_size : int, default=10
        Number of nodes that a search follows per level, or more where ``top_k`` needs it.
    flat : bool or "auto", default="auto"
        Train all labels on all rows, without a tree; "auto" does so for up to 1,000 labels.
    negatives : {"tfn", "tfn+man"}, default="tfn"
        Rows that a node is trained on: those with a label below its parent (teacher-forced
        negatives), or also those whose beam passes through the parent (matched negatives), level by
        level.
    propensity_power : float, default=1.0
        Positive rows of a label count (w / min w)^power times as much as negative ones, where w is
        the inverse propensity of the label. Larger values favour rare labels; 0 treats all alike.
    label_weight : float, default=0.2
        Weight of the rows that are made of the labels' own features, one per label. Through them
        labels without training rows can be found. Needs ``label_features``.
    graph_weight : float, default=0.5
        Weight of the mean of a label's neighbours against its own vector, when labels are
        clustered. Needs ``graph``.
    top_k : int, default=100
        Number of labels that are retrieved per row.
    threshold : float, default=0.5
        Smallest probability of a predicted label.
    graph : sparse matrix of shape (n_labels, n_labels) or LabelGraph, default=None
        Graph between labels; linked labels come close to each other in the tree.
    label_features : LabelTexts, matrix or sequence of str with n_labels rows, default=None
        Texts or features of the labels, in the same form as the samples.
    vectorizer : transformer, default=None
        Turns texts into a feature matrix; a clone is fitted on the training texts. None means
        ``TfidfVectorizer(sublinear_tf=True, dtype=np.float32)`` where ``X`` holds texts.
    random_state : int, RandomState instance or None, default=None
        Seed of the clusters and of the order of rows.
    n_jobs : int, default=None
        Number of threads. Results do not depend on it.

    Attributes
    ----------
    model_ : ChunkedWeights
        Weights of all trees.
    n_iter_ : int
        Passes that the slowest classifier needed.
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

    _accepts_texts = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{
            name: BaseXC._parameter_constraints[name]
            for name in (
                *("top_k", "threshold", "graph", "label_features", "vectorizer"),
                *("random_state", "n_jobs"),
            )
        },
        "loss": [StrOptions({"squared_hinge", "logistic"})],
        "C": [Interval(Real, 0, None, closed="neither")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "prune": [Interval(Real, 0, None, closed="left")],
        "n_trees": [Interval(Integral, 1, None, closed="left")],
        "max_leaf_size": [Interval(Integral, 2, None, closed="left")],
        "branching": [Interval(Integral, 2, None, closed="left")],
        "beam_size": [Interval(Integral, 1, None, closed="left")],
        "flat": ["boolean", StrOptions({"auto"})],
        "negatives": [StrOptions({"tfn", "tfn+man"})],
        "propensity_power": [Interval(Real, 0, None, closed="left")],
        "label_weight": [Interval(Real, 0, None, closed="left")],
        "graph_weight": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        loss: str = "squared_hinge",
        C: float = 0.5,
        tol: float = 0.1,
        max_iter: int = 30,
        prune: float = 0.1,
        n_trees: int = 1,
        max_leaf_size: int = 100,
        branching: int = 16,
        beam_size: int = 10,
        flat: bool | str = "auto",
        negatives: str = "tfn",
        propensity_power: float = 1.0,
        label_weight: float = 0.2,
        graph_weight: float = 0.5,
        top_k: int = 100,
        threshold: float = 0.5,
        graph: Any = None,
        label_features: Any = None,
        vectorizer: Any = None,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.loss = loss
        self.C = C
        self.tol = tol
        self.max_iter = max_iter
        self.prune = prune
        self.n_trees = n_trees
        self.max_leaf_size = max_leaf_size
        self.branching = branching
        self.beam_size = beam_size
        self.flat = flat
        self.negatives = negatives
        self.propensity_power = propensity_power
        self.label_weight = label_weight
        self.graph_weight = graph_weight
        self.top_k = top_k
        self.threshold = threshold
        self.graph = graph
        self.label_features = label_features
        self.vectorizer = vectorizer
        self.random_state = random_state
        self.n_jobs = n_jobs

    # ---- texts

    def _fit_vectorizer(self, X: Features, label_features: Features | None) -> Features:
        if self.vectorizer is not None or self.input_layout_ == "matrix":
            return super()._fit_vectorizer(X, label_features)
        has_label_texts = isinstance(label_features, np.ndarray)
        texts = np.concatenate([X, label_features]) if has_label_texts else X
        self.vectorizer_ = TfidfVectorizer(sublinear_tf=True, dtype=np.float32)
        return as_csr(self.vectorizer_.fit_transform(texts)[: len(X)])

    def _vectorize(self, texts: NDArray[np.object_]) -> Features:
        if len(texts) == 1:
            row = vectorize_one(self.vectorizer_, texts[0])
            if row is not None:
                return as_csr(row)
        return super()._vectorize(texts)

    # ---- training

    def _gives_rows_back(self, n_samples: int) -> bool:
        return n_samples < CHEAP_SAMPLES

    def _fit(self, data: TrainingSet, held_out: TrainingSet | None) -> None:
        seed = root_seed(self.random_state)
        X, y, weight = unit_rows(data.X), data.y, data.sample_weight
        Z = None if data.label_features is None else unit_rows(data.label_features)
        vectors = self._label_vectors(data, X, Z)
        if Z is not None and self.label_weight > 0:
            # A label's own features are one more row with this label.
            X = sp.csr_array(sp.vstack([X, Z]))
            y = sp.csr_array(sp.vstack([y, sp.eye_array(data.n_labels, format="csr")]))
            weight = np.concatenate([weight, np.full(data.n_labels, self.label_weight)])
        # Without label features, labels that have no row cannot be found.
        labels = np.unique(y.indices).astype(np.int64)
        if len(labels) == 0:
            labels = np.arange(data.n_labels)
        flat = len(labels) <= FLAT_LABELS if self.flat == "auto" else self.flat
        trees = []
        for number in range(1 if flat else self.n_trees):
            rng = stream(seed, "tree", number)
            tree = flat_tree(labels) if flat else self._tree(vectors, labels, rng)
            trees.append((tree, int(rng.integers(2**31))))
        del vectors  # large, and not needed any more
        factors = self._label_factors(data)
        models, n_iter = [], []
        for tree, tree_seed in trees:
            trainer = self._trainer(tree, X, y, weight, factors, tree_seed)
            matched = self.negatives == "tfn+man"
            models.append(trainer.train_matched(self.beam_size) if matched else trainer.train())
            n_iter.append(trainer.n_iter)
        self.model_ = join_models(models)
        self.n_iter_ = max(n_iter)

    def _label_vectors(
        self, data: TrainingSet, X: sp.csr_array, Z: sp.csr_array | None
    ) -> sp.csr_array:
        graph = data.graph.to_csr() if isinstance(data.graph, LabelGraph) else None
        return label_vectors(
            X,
            data.y,
            data.sample_weight,
            label_features=Z,
            graph=graph,
            graph_weight=self.graph_weight,
        )

    def _tree(
        self, vectors: sp.csr_array, labels: NDArray[np.int64], rng: np.random.Generator
    ) -> LabelTree:
        return build_tree(
            vectors if len(labels) == vectors.shape[0] else vectors[labels],
            labels,
            max_leaf_size=self.max_leaf_size,
            branching=self.branching,
            rng=rng,
        )

    def _trainer(
        self,
        tree: LabelTree,
        X: sp.csr_array,
        y: sp.csr_array,
        weight: NDArray[np.float64],
        factors: NDArray[np.float32],
        seed: int,
    ) -> TreeTrainer:
        return TreeTrainer(
            tree,
            X,
            y,
            sample_weight=weight,
            label_weight=factors,
            solver=Solver(self.loss, self.C, self.tol, self.max_iter, self.prune),
            seed=seed,
            n_jobs=effective_n_jobs(self.n_jobs),
        )

    def _label_factors(self, data: TrainingSet) -> NDArray[np.float32]:
        """Return the factors of C of the positive rows of every label."""
        frequency = data.y.T @ data.sample_weight
        # The formula needs at least three rows.
        factor = inverse_propensity(frequency, max(3, data.sample_weight.sum()))
        factor = (factor / factor.min()) ** self.propensity_power
        return factor.astype(np.float32)

    # ---- search

    def _search(self, X: Features, k: int) -> TopK:
        return search(
            self.model_,
            X,
            k,
            beam_size=max(self.beam_size, -(-self.top_k // self.model_.smallest_leaf)),
            loss=self.loss,
            n_jobs=effective_n_jobs(self.n_jobs),
        )
