"""What all estimators share: the scikit-learn contract around one training and one search method.

A subclass writes ``_fit(data, held_out)`` on checked, canonical data, and ``_search(X, k)``, which
returns the ``k`` best labels of every row. Everything that users call is built here on these two.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, _fit_context, clone
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from skxc.exceptions import DenseOutputError, FormatVersionError
from skxc.labels import AnchorGraph, LabelGraph, LabelTexts, check_graph, check_label_features
from skxc.utils._callbacks import with_callbacks
from skxc.utils._canonical import canonical_rows
from skxc.utils._sparse import TopK, index_dtype, pack_topk, row_ids
from skxc.utils._validation import Target, as_csr, as_texts, check_target, is_text_sequence

if TYPE_CHECKING:
    from sklearn.utils import Tags
    from typing_extensions import Self

__all__ = ["BaseXC", "EmbeddingMixin", "TrainingSet"]

# Dense answers above this many cells (400 MB of float32) are refused rather than built.
MAX_DENSE_CELLS = 10**8
# Written into pickles; a newer one than this is refused.
STATE_VERSION = 1
# Held-out rows for calibration: a share of small data, given back afterwards, and a part of large
# data.
SMALL_SAMPLE = 2000
FEWEST_ROWS = 10
# A dense answer needs a probability for labels that were not retrieved at all.
MISSING_PROBABILITY = 1e-4
# Dense probabilities stay inside (0, 1), in float32.
_SMALLEST, _BELOW_ONE = np.finfo(np.float32).tiny, np.nextafter(np.float32(1), np.float32(0))

# A csr_array or an ndarray of str objects; static types cannot follow which one an estimator sees.
Features = Any


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Checked training data in canonical row order, the argument of a subclass's ``_fit``.

    Attributes
    ----------
    X : csr_array of float32, shape (n, n_features), or ndarray of str objects, shape (n,)
        Samples; after the vectoriser, if the estimator has one.
    y : csr_array of float32 ones, shape (n, n_labels)
        Labels; rows and columns may be empty, column ids are sorted.
    sample_weight : ndarray of float64, shape (n,)
        Positive weights.
    label_features : csr_array of float32, shape (n_labels, n_features), ndarray of str, or None
        The label side, in the same form as ``X``.
    graph : LabelGraph, AnchorGraph, str or None
        The label-side graph; an AnchorGraph always has anchor texts.
    sample_graph : csr_array of float32, shape (n, n_anchors), or None
        Edges of the samples to anchors.
    label_names : list of str or None
        Names of the labels.
    source : tuple of (X, y)
        The arguments of ``fit`` as they came, for callbacks.
    """

    X: Features
    y: sp.csr_array
    sample_weight: NDArray[np.float64]
    label_features: Features | None = None
    graph: LabelGraph | AnchorGraph | str | None = None
    sample_graph: sp.csr_array | None = None
    label_names: list[str] | None = None
    source: tuple[Any, Any] = (None, None)

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return int(self.y.shape[0])

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return int(self.y.shape[1])

    def take(self, rows: NDArray[np.integer]) -> TrainingSet:
        """Return the given rows, with everything that belongs to the labels unchanged."""
        sample_graph = None if self.sample_graph is None else self.sample_graph[rows]
        return replace(
            self,
            X=self.X[rows],
            y=self.y[rows],
            sample_weight=self.sample_weight[rows],
            sample_graph=sample_graph,
        )


class BaseXC(ClassifierMixin, BaseEstimator):
    """Base class of all estimators.

    Subclasses define a keyword-only ``__init__`` that only assigns, ``_parameter_constraints``
    merged with the ones here, ``_fit`` and ``_search``. A subclass without a label side leaves
    ``graph`` and ``label_features`` out of its constructor and of its ``fit``.

    Parameters
    ----------
    top_k : int, default=100
        Number of labels that are retrieved per row.
    threshold : float, default=0.5
        Smallest probability of a predicted label.
    graph : sparse matrix of shape (n_labels, n_labels), LabelGraph or AnchorGraph, default=None
        Graph between labels.
    label_features : LabelTexts, matrix or sequence of str with n_labels rows, default=None
        Texts or features of the labels.
    vectorizer : transformer, default=None
        Turns texts into a feature matrix; a clone is fitted on the texts of the training samples
        and of the labels.
    device : str, default="auto"
        Where torch computes.
    random_state : int, RandomState instance or None, default=None
        Seed.
    n_jobs : int, default=None
        Number of parallel jobs.
    verbose : int, default=0
        Amount of progress messages.
    """

    # Graph and label features reach a nested estimator without set_fit_request, routing on or off.
    __metadata_request__fit: ClassVar[dict[str, Any]] = {"graph": True, "label_features": True}

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "top_k": [Interval(Integral, 1, None, closed="left")],
        "threshold": [Interval(Real, 0, 1, closed="both")],
        "graph": [None, "array-like", "sparse matrix", LabelGraph, AnchorGraph, str],
        "label_features": [None, "array-like", "sparse matrix", LabelTexts],
        "vectorizer": [None, HasMethods(["fit", "transform"])],
        "device": [str],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    # Whether ``_fit`` and ``_search`` take raw texts when there is no vectoriser.
    _accepts_texts: ClassVar[bool] = False
    # Whether ``_fit`` takes an AnchorGraph with texts of its own.
    _accepts_anchors: ClassVar[bool] = False
    # Strings that may stand for a graph, such as "cooccurrence"; ``_fit`` builds it from its rows.
    _named_graphs: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        top_k: int = 100,
        threshold: float = 0.5,
        graph: Any = None,
        label_features: Any = None,
        vectorizer: Any = None,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.top_k = top_k
        self.threshold = threshold
        self.graph = graph
        self.label_features = label_features
        self.vectorizer = vectorizer
        self.device = device
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    # ---- what a subclass writes

    def _fit(self, data: TrainingSet, held_out: TrainingSet | None) -> None:
        """Train on `data` and set fitted attributes; `held_out` may steer, not train."""
        raise NotImplementedError(f"{type(self).__name__} must define `_fit`.")

    def _search(self, X: Features, k: int) -> TopK:
        """Return padded (indices, scores) of the k best labels; ties go to the lower id."""
        raise NotImplementedError(f"{type(self).__name__} must define `_search`.")

    # ---- fit

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        graph: Any = None,
        label_features: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Fit the estimator.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), or sequence of str
            Samples. Texts need a ``vectorizer`` or an estimator that reads texts.
        y : sparse matrix or array-like of shape (n_samples, n_labels), or of shape (n_samples,)
            Binary indicator, or one class per sample. Rows without labels are allowed.
        graph : sparse matrix, LabelGraph or AnchorGraph, default=None
            Label-side graph; overrides the constructor parameter.
        label_features : LabelTexts, matrix or sequence of str with n_labels rows, default=None
            Label texts or features; overrides the constructor parameter.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights. An integer weight equals a repetition of the row.

        Returns
        -------
        self
        """
        return self._fit_checked(
            X, y, graph=graph, label_features=label_features, sample_weight=sample_weight
        )

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def _fit_checked(
        self,
        X: Any,
        y: Any,
        *,
        graph: Any = None,
        sample_graph: Any = None,
        label_features: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Check the arguments, train and calibrate; what every public ``fit`` calls."""
        source = (X, y)
        if y is None:
            check_target(y)
        X = self._check_fit_X(X)
        target = check_target(y)
        n_samples, n_labels = int(X.shape[0]), int(target.matrix.shape[1])
        _check_rows("y", target.matrix.shape[0], n_samples, "Pass one row of labels per sample.")
        weight = _check_weight(sample_weight, n_samples)
        sample_graph = _check_sample_graph(sample_graph, n_samples)
        # The label side is checked against the target as it came, before classes can drop out.
        graph = self._check_graph(self._or_parameter("graph", graph), n_labels, n_samples)
        label_features, names = check_label_features(
            self._or_parameter("label_features", label_features), n_labels, n_samples
        )

        # The graph of samples must not move rows: training without its edges is training without
        # it, bit for bit.
        ties = [] if sample_graph is None else [sample_graph]
        rows, weight = canonical_rows([X, target.matrix], weight, ties)
        y_rows, classes = _drop_absent_classes(target, rows)
        if y_rows.nnz == 0:
            raise ValueError(
                "`y` must hold at least one label in a row of positive weight, but all "
                f"{len(rows)} different rows have none. Check how `y` was built."
            )
        data = TrainingSet(
            X=self._fit_vectorizer(X[rows], label_features),
            y=y_rows,
            sample_weight=weight,
            sample_graph=None if sample_graph is None else sample_graph[rows],
            label_names=names or target.names,
            source=source,
        )
        data = replace(
            data,
            label_features=self._check_label_side(label_features),
            graph=self._check_anchors(graph),
        )
        self._set_target_attributes(data, classes, target)
        self._fit_calibrated(data)
        return self

    def _check_fit_X(self, X: Any) -> Features:
        """Return the samples as an object array of texts or as CSR float32, and note which."""
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
        as_text = is_text_sequence(X)
        if isinstance(X, str) or as_text:
            texts = as_texts(X, "X")
            if getattr(self, "vectorizer", None) is None and not self._accepts_texts:
                raise ValueError(
                    f"`X` holds texts, but {type(self).__name__} works on feature matrices. "
                    "Pass vectorizer=TfidfVectorizer() to its constructor, or vectorise `X` first."
                )
            self.input_layout_: Literal["texts", "matrix"] = "texts"
            return texts
        if getattr(self, "vectorizer", None) is not None:
            raise ValueError(
                "`X` must be a sequence of texts because `vectorizer` is set, but is a "
                f"{type(X).__name__}. Pass texts, or set vectorizer=None."
            )
        matrix = validate_data(self, X, accept_sparse="csr", dtype=np.float32)
        self.input_layout_ = "matrix"
        return as_csr(matrix)

    def _check_X(self, X: Any) -> Features:
        """Return the samples of a fitted estimator as ``_search`` wants them."""
        check_is_fitted(self)
        if self.input_layout_ == "matrix":
            return as_csr(
                validate_data(self, X, accept_sparse="csr", dtype=np.float32, reset=False)
            )
        if not (isinstance(X, str) or is_text_sequence(X)):
            raise ValueError(
                f"`X` must be a sequence of texts, as in fit, but is a {type(X).__name__}."
            )
        return self._vectorize(as_texts(X, "X"))

    def _or_parameter(self, name: str, value: Any) -> Any:
        """Return the fit keyword, or else the constructor parameter of that name."""
        return getattr(self, name, None) if value is None else value

    def _check_graph(
        self, graph: Any, n_labels: int, n_samples: int
    ) -> LabelGraph | AnchorGraph | str | None:
        """Return the checked graph, after a check of what this estimator can use."""
        if isinstance(graph, str):
            if graph not in self._named_graphs:
                raise ValueError(
                    f"`graph` of {type(self).__name__} must be a matrix, a LabelGraph or one of "
                    f"{list(self._named_graphs)}, but {graph!r} was given."
                )
            return graph
        graph = check_graph(graph, n_labels, n_samples)
        if isinstance(graph, AnchorGraph) and not self._accepts_anchors:
            raise ValueError(
                f"`graph` of {type(self).__name__} must connect labels with labels, but an "
                "AnchorGraph with anchor texts was given. Use LabelGraph."
            )
        return graph

    def _fit_vectorizer(self, X: Features, label_features: Features | None) -> Features:
        """Return the samples, vectorised by a fitted clone of the vectoriser if there is one.

        It learns from label texts too, whose words may occur in no sample.
        """
        self.__dict__.pop("vectorizer_", None)
        if getattr(self, "vectorizer", None) is None:
            return X
        has_label_texts = isinstance(label_features, np.ndarray)
        texts = np.concatenate([X, label_features]) if has_label_texts else X
        self.vectorizer_ = clone(self.vectorizer).fit(texts)
        return self._vectorize(X)

    def _vectorize(self, texts: NDArray[np.object_]) -> Features:
        """Return texts as features, or as they are where there is no vectoriser."""
        if not hasattr(self, "vectorizer_"):
            return texts
        return as_csr(self.vectorizer_.transform(texts))

    def _check_label_side(
        self, label_features: Features | None, name: str = "label_features", of: str = "label"
    ) -> Features | None:
        """Return label features, or those of something else, in the form and space of samples."""
        if label_features is None:
            return None
        if self.input_layout_ == "texts":
            if isinstance(label_features, sp.csr_array):
                raise ValueError(
                    f"`{name}` must be texts because `X` holds texts, but is a matrix of "
                    f"shape {label_features.shape}. Pass one text per {of}."
                )
            return self._vectorize(label_features)
        if not isinstance(label_features, sp.csr_array):
            raise ValueError(
                f"`{name}` must be a matrix because `X` is one, but holds texts. Vectorise "
                "them, or pass texts on both sides and a `vectorizer`."
            )
        n_columns, n_features = label_features.shape[1], self.n_features_in_
        if n_columns != n_features:
            raise ValueError(
                f"`{name}` has {n_columns} columns but `X` has {n_features}. "
                "Both sides must share one feature space; a vectoriser in front of the estimator "
                "changes it from fold to fold, so pass `vectorizer` to the constructor instead."
            )
        return label_features

    def _check_anchors(
        self, graph: LabelGraph | AnchorGraph | str | None
    ) -> LabelGraph | AnchorGraph | str | None:
        """Return the graph with its anchors, if it has any, in the form and space of samples."""
        if not isinstance(graph, AnchorGraph):
            return graph
        anchors = self._check_label_side(graph.texts, "the texts of `graph`", "anchor")
        if anchors is graph.texts:
            return graph
        return AnchorGraph(graph.to_csr(), texts=anchors, groups=graph.groups)

    def _set_target_attributes(self, data: TrainingSet, classes: NDArray, target: Target) -> None:
        """Set the fitted attributes that describe the training target."""
        self.classes_ = classes
        self.n_labels_ = data.n_labels
        self.label_names_ = data.label_names
        self.label_frequency_ = _as_counts(data.y.T @ data.sample_weight)
        self.n_samples_fit_ = _as_counts(np.array([data.sample_weight.sum()]))[0].item()
        self.target_layout_ = target.layout
        self.target_dtype_ = target.dtype

    # ---- calibration

    def _fit_calibrated(self, data: TrainingSet) -> None:
        """Train, with some rows held out to turn scores into probabilities."""
        self.__dict__.pop("calibrator_", None)
        rest, held_out = _hold_out(data)
        if held_out is None:
            self._fit(data, None)
            self.calibrator_ = self._calibrate(data)
        elif self._gives_rows_back(data.n_samples):
            probe = self._silent_copy()
            probe._fit(rest, held_out)
            self.calibrator_ = probe._calibrate(held_out)
            self._fit(data, None)
        else:
            self._fit(rest, held_out)
            self.calibrator_ = self._calibrate(held_out)

    def _gives_rows_back(self, n_samples: int) -> bool:
        """Return whether a second training uses the held-out rows too."""
        return n_samples < SMALL_SAMPLE

    def _silent_copy(self) -> Self:
        """Return a copy for a trial training: callbacks see the real one only."""
        probe = copy.copy(self)
        for name in ("_skl_callbacks", "_parent_callback_ctx"):
            probe.__dict__.pop(name, None)
        return probe

    def _calibrate(self, held_out: TrainingSet) -> Any:
        """Return a calibrator fitted on the scores of the held-out rows."""
        from skxc.calibration import TopKCalibrator

        scores = self._retrieve(held_out.X, self.top_k)
        return TopKCalibrator().fit(scores, held_out.y, held_out.sample_weight)

    # ---- predict

    def _retrieve(self, X: Features, k: int) -> sp.csr_array:
        """Return the scores of the k best labels of every row as CSR."""
        return pack_topk(*self._search(X, min(k, self.n_labels_)), self.n_labels_)

    def _retrieve_for_output(self, X: Any) -> sp.csr_array:
        """Return scores for the layout of the target: the best labels, or all for dense answers."""
        X = self._check_X(X)
        if self.target_layout_ == "sparse":
            return self._retrieve(X, self.top_k)
        cells = X.shape[0] * self.n_labels_
        if cells > MAX_DENSE_CELLS:
            raise DenseOutputError(
                f"A dense answer has at most {MAX_DENSE_CELLS} cells, but {X.shape[0]} rows x "
                f"{self.n_labels_} labels make {cells}: fit with a sparse y, or predict fewer rows."
            )
        return self._retrieve(X, self.n_labels_)

    def decision_function(self, X: Any) -> sp.csr_array | NDArray:
        """Return the scores of the best labels.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features), or sequence of str
            Samples, in the same form as in ``fit``.

        Returns
        -------
        csr_array of float32 of shape (n, n_labels), after a fit with a sparse ``y``
            At most ``top_k`` stored entries per row, with sorted columns. An absent entry was not
            retrieved; a stored zero or negative score is a score.
        ndarray of float32 of shape (n, n_labels), after a fit with a dense or 1-D ``y``
            Labels that were not retrieved get a value below all retrieved ones of the row. For two
            classes the shape is (n,): the log-odds of the second, from ``predict_proba``.
        """
        check_is_fitted(self)
        if self.target_layout_ == "classes" and self.n_labels_ == 2:
            # Not the difference of two scores, which would not rank samples as probabilities do.
            return self._log_odds(X)
        scores = self._retrieve_for_output(X)
        if self.target_layout_ == "sparse":
            return scores
        low = _row_minimum(scores)
        low[np.isinf(low)] = 0
        return _fill(scores, low - 1 - np.abs(low))

    def _log_odds(self, X: Any) -> NDArray[np.float32]:
        """Return the log-odds of the second of two classes, shape (n,)."""
        probability = np.asarray(self.predict_proba(X))[:, 1].astype(np.float64)
        return (np.log(probability) - np.log1p(-probability)).astype(np.float32)

    def predict_proba(self, X: Any) -> sp.csr_array | NDArray:
        """Return calibrated probabilities of the best labels.

        Probabilities rank labels as ``decision_function`` does, and are calibrated on training rows
        that the calibrated model did not see.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features), or sequence of str
            Samples, in the same form as in ``fit``.

        Returns
        -------
        csr_array of shape (n, n_labels), after a fit with a sparse ``y``
            At most ``top_k`` stored entries per row, all strictly between 0 and 1.
        ndarray of float32 of shape (n, n_labels), after a fit with a dense or 1-D ``y``
            All between 0 and 1; rows add up to 1 for a 1-D ``y``.
        """
        retrieved = self._retrieve_for_output(X)
        probabilities = self.calibrator_.transform(retrieved)
        if self.target_layout_ == "sparse":
            return probabilities
        missing = np.minimum(MISSING_PROBABILITY, _row_minimum(probabilities) / 2)
        dense = _fill(probabilities, missing)
        if self.target_layout_ == "classes":
            dense /= dense.sum(axis=1, keepdims=True)
        # Scores are float32, and more digits than theirs would depend on how rows were batched.
        return np.clip(dense.astype(np.float32), _SMALLEST, _BELOW_ONE)

    def predict(self, X: Any) -> sp.csr_array | NDArray:
        """Return the labels with a probability of ``threshold`` or more, or the best class.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features), or sequence of str
            Samples, in the same form as in ``fit``.

        Returns
        -------
        csr_array or ndarray of shape (n, n_labels), or ndarray of shape (n,)
            0/1 indicator in the type of ``y``, sparse if ``y`` was; class values for a 1-D ``y``.
        """
        check_is_fitted(self)
        if self.target_layout_ == "classes":
            if self.n_labels_ == 2:
                return self.classes_[(self._log_odds(X) > 0).astype(int)]
            best = self._search(self._check_X(X), 1)[0][:, 0]
            return self.classes_[np.maximum(best, 0)]
        probabilities = self.predict_proba(X)
        if isinstance(probabilities, np.ndarray):
            return (probabilities >= self.threshold).astype(self.target_dtype_)
        # Only retrieved labels can be predicted, whatever the threshold.
        probabilities.data = (probabilities.data >= self.threshold).astype(self.target_dtype_)
        probabilities.eliminate_zeros()
        return probabilities

    def predict_topk(self, X: Any, k: int | None = None) -> TopK:
        """Return the k best labels of every row.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features), or sequence of str
            Samples, in the same form as in ``fit``.
        k : int, default=None
            Number of labels per row; None means ``top_k``.

        Returns
        -------
        indices : ndarray of int32 (int64 beyond its range), shape (n, k)
            Column ids of the labels, best first, ties to the lower id; -1 where a row runs out.
        scores : ndarray of float32, shape (n, k)
            Their scores, as in ``decision_function``; -inf where a row runs out.
        """
        X = self._check_X(X)
        k = self._check_k(k)
        indices, scores = self._search(X, min(k, self.n_labels_))
        indices = indices.astype(index_dtype(self.n_labels_), copy=False)
        scores = scores.astype(np.float32, copy=False)
        n_missing = k - indices.shape[1]
        if n_missing:
            missing = ((0, 0), (0, n_missing))
            indices = np.pad(indices, missing, constant_values=-1)
            scores = np.pad(scores, missing, constant_values=-np.inf)
        return indices, scores

    def predict_labels(self, X: Any, k: int | None = None) -> list[list[Any]]:
        """Return the names of the k best labels of every row.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features), or sequence of str
            Samples, in the same form as in ``fit``.
        k : int, default=None
            Number of labels per row; None means ``top_k``.

        Returns
        -------
        list of n lists
            Names, best first, without padding; values of ``classes_`` where labels have no names.
        """
        indices, _ = self.predict_topk(X, k)
        if self.label_names_ is None:
            return [self.classes_[row[row >= 0]].tolist() for row in indices]
        names = self.label_names_
        return [[names[label] for label in row if label >= 0] for row in indices.tolist()]

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Return precision@1: the share of rows whose best label is right.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features), or sequence of str
            Samples, in the same form as in ``fit``.
        y : sparse matrix or array-like of shape (n, n_labels) or (n,)
            True labels. Rows without labels count as wrong.
        sample_weight : array-like of shape (n,), default=None
            Weights of the rows.

        Returns
        -------
        float
            Between 0 and 1; the accuracy for a 1-D ``y``.
        """
        check_is_fitted(self)
        if self.target_layout_ == "classes":
            return super().score(X, y, sample_weight)
        X = self._check_X(X)
        truth = check_target(y).matrix
        _check_rows("y", truth.shape[0], X.shape[0], "Pass one row of labels per sample.")
        if truth.shape[1] != self.n_labels_:
            raise ValueError(
                f"`y` has {truth.shape[1]} labels but the model was fitted with {self.n_labels_}. "
                "Pass the same label columns as in fit."
            )
        indices, _ = self._search(X, 1)
        best = pack_topk(indices, np.ones(indices.shape, dtype=np.float32), self.n_labels_)
        hits = np.asarray(best.multiply(truth).sum(axis=1)).ravel()
        return float(np.average(hits, weights=_check_weight(sample_weight, X.shape[0])))

    def _check_k(self, k: int | None) -> int:
        """Return k, by default ``top_k``."""
        k = self.top_k if k is None else k
        if not isinstance(k, Integral) or k < 1:
            raise ValueError(f"`k` must be an integer of at least 1, but is {k!r}.")
        return int(k)

    # ---- new labels

    def _check_new_labels(
        self, label_features: Any, label_names: Any = None
    ) -> tuple[Features, dict[str, Any]]:
        """Return features of labels to add, and the base attributes with these labels at the end.

        Nothing is set: a subclass's ``add_labels`` first computes what it needs and then sets
        everything at once, so that a failure leaves the estimator as it was.
        """
        check_is_fitted(self)
        if self.target_layout_ == "classes":
            raise ValueError(
                "`add_labels` needs an indicator matrix as target, but the model was fitted on a "
                "1-D `y`. Fit with an indicator matrix."
            )
        features, names = check_label_features(label_features, None, None)
        if features is None:
            raise ValueError("`label_features` must describe the new labels, but None was given.")
        names = names if label_names is None else as_texts(label_names, "label_names").tolist()
        n_new = features.shape[0]
        if names is not None and len(names) != n_new:
            raise ValueError(
                f"`label_names` has {len(names)} elements but `label_features` has {n_new} rows. "
                "Pass one name per new label."
            )
        if (names is None) != (self.label_names_ is None):
            given, have = ("be given", "have") if names is None else ("be None", "have no")
            raise ValueError(
                f"`label_names` must {given} because the labels of the model {have} names."
            )
        n_labels = self.n_labels_ + n_new
        grown = {
            "classes_": np.arange(n_labels),
            "n_labels_": n_labels,
            "label_names_": names and [*(self.label_names_ or []), *names],
            "label_frequency_": np.pad(self.label_frequency_, (0, n_new)),
        }
        return self._check_label_side(features), grown

    # ---- parameters, tags, state

    def set_params(self, **params: Any) -> Self:
        """Set parameters, also of parts such as ``encoder__dim``.

        A part that is still a name, such as ``encoder="bag"``, first becomes the object of that
        name.

        Parameters
        ----------
        **params : dict
            Parameters of the estimator, or ``part__parameter``.

        Returns
        -------
        self
        """
        for key in list(params):
            part, nested, _ = key.partition("__")
            value = params.get(part, getattr(self, part, None))
            if nested and isinstance(value, str):
                params[part] = self._make_part(part, value)
        return super().set_params(**params)

    def _make_part(self, part: str, name: str) -> Any:
        """Return the object that a name stands for."""
        if part != "encoder":
            raise ValueError(
                f"`{part}` is {name!r}, which has no parameters of its own. "
                f"Set `{part}` to an object."
            )
        from skxc.encoders import make_encoder

        return make_encoder(name)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = False
        if getattr(self, "vectorizer", None) is not None:
            tags.input_tags.string = True
            tags.input_tags.one_d_array = True
            tags.input_tags.two_d_array = False
            tags.input_tags.sparse = False
        elif self._accepts_texts:
            # Not one_d_array too: scikit-learn would then take that for the only form of X.
            tags.input_tags.string = True
        return tags

    def save(self, path: str | Path) -> None:
        """Save the fitted estimator as a folder without pickles; ``skxc.load`` reads it.

        Parameters
        ----------
        path : str or Path
            Folder to write.
        """
        from skxc.persistence import save

        save(self, path)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_skxc_state_version": STATE_VERSION}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        version = state.pop("_skxc_state_version", STATE_VERSION)
        if version > STATE_VERSION:
            raise FormatVersionError(
                f"The pickle of {type(self).__name__} has state version {version}, but the "
                f"installed skxc reads versions up to {STATE_VERSION}. Update skxc."
            )
        super().__setstate__(state)


class EmbeddingMixin(TransformerMixin):
    """Adds ``transform`` to an estimator with an embedding; stands in front of :class:`BaseXC`."""

    def _embed(self, X: Features) -> NDArray[np.float32]:
        """Return the embedding of checked samples, shape (n, d)."""
        raise NotImplementedError(f"{type(self).__name__} must define `_embed`.")

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the embeddings of samples.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features), or sequence of str
            Samples, in the same form as in ``fit``.

        Returns
        -------
        ndarray of float32 of shape (n, d)
        """
        return self._embed(self._check_X(X))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        # Embeddings are float32 whatever X was. BaseXC could not say so: its tags are made earlier.
        tags.transformer_tags.preserves_dtype = []
        return tags


def _check_rows(name: str, n_rows: int, n_samples: int, cure: str) -> None:
    """Raise unless an argument has one row per sample."""
    if n_rows != n_samples:
        raise ValueError(f"`{name}` has {n_rows} rows but `X` has {n_samples}. {cure}")


def _check_weight(sample_weight: ArrayLike | None, n_samples: int) -> NDArray[np.float64]:
    """Return checked weights, ones by default."""
    rows = np.empty((n_samples, 1))
    weight = _check_sample_weight(sample_weight, rows, dtype=np.float64, ensure_non_negative=True)
    if not np.any(weight):
        raise ValueError(
            "`sample_weight` must give some row a positive weight, but all weights are zero. "
            "Pass None to weigh all rows equally."
        )
    return weight


def _check_sample_graph(sample_graph: Any, n_samples: int) -> sp.csr_array | None:
    """Return the per-sample graph as canonical CSR."""
    if sample_graph is None:
        return None
    if not sp.issparse(sample_graph) or len(np.shape(sample_graph)) != 2:
        raise TypeError(
            "`sample_graph` must be one sparse matrix with a row per sample, but is a "
            f"{type(sample_graph).__name__}. Stack the anchor sets side by side with "
            "scipy.sparse.hstack and describe them by AnchorGraph(groups=...)."
        )
    edges = as_csr(sample_graph)
    _check_rows("sample_graph", edges.shape[0], n_samples, "Pass one row per sample.")
    if not np.all(np.isfinite(edges.data)) or np.any(edges.data < 0):
        raise ValueError(
            "`sample_graph` must hold finite, non-negative weights. Drop or rescale other edges."
        )
    return edges


def _drop_absent_classes(target: Target, rows: NDArray[np.integer]) -> tuple[sp.csr_array, NDArray]:
    """Return the kept rows of the target; a class whose rows all had weight zero is no class."""
    y = target.matrix[rows]
    if target.layout != "classes":
        return y, target.classes
    present = np.bincount(y.indices, minlength=y.shape[1]) > 0
    return y[:, present], target.classes[present]


def _as_counts(values: NDArray[np.floating]) -> NDArray:
    """Return sums of weights as int64 where all are whole numbers."""
    values = np.asarray(values, dtype=np.float64)
    whole = np.rint(values)
    return whole.astype(np.int64) if np.array_equal(values, whole) else values


def _n_held_out(n_samples: int) -> int:
    """Return how many rows calibration holds out."""
    if n_samples < FEWEST_ROWS:
        return 0
    if n_samples < SMALL_SAMPLE:
        return math.ceil(n_samples / 5)
    return min(1000, math.ceil(n_samples / 20))


def _hold_out(data: TrainingSet) -> tuple[TrainingSet, TrainingSet | None]:
    """Return the rows to train on and the held-out ones, None where there are too few.

    Canonical rows are in random order, so the first ones are a fair draw.
    """
    n_held = _n_held_out(data.n_samples)
    rows = np.arange(data.n_samples)
    rest = data.take(rows[n_held:])
    if n_held == 0 or rest.y.nnz == 0:
        return data, None
    return rest, data.take(rows[:n_held])


def _row_minimum(matrix: sp.csr_array) -> NDArray[np.floating]:
    """Return the smallest stored value of every row, infinity for rows without any."""
    low = np.full(matrix.shape[0], np.inf, dtype=matrix.dtype)
    np.minimum.at(low, row_ids(matrix), matrix.data)
    return low


def _fill(matrix: sp.csr_array, missing: NDArray[np.floating]) -> NDArray:
    """Return a CSR array as a dense one, with one value per row for absent entries."""
    dense = np.repeat(missing[:, None].astype(matrix.dtype), matrix.shape[1], axis=1)
    dense[row_ids(matrix), matrix.indices] = matrix.data
    return dense
