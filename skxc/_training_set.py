"""From the arguments of `fit` to checked training data; the estimator itself is not touched."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils.validation import _check_sample_weight, column_or_1d, validate_data

from skxc._own_labels import OwnLabels
from skxc.labels import AnchorGraph, LabelGraph, LabelTexts, check_graph, check_label_features
from skxc.utils._canonical import canonical_rows
from skxc.utils._label_lists import (
    UnknownLabels,
    rows_of_names,
    rows_to_score,
    target_of_names,
    truth_of_names,
)
from skxc.utils._validation import (
    Target,
    as_csr,
    as_texts,
    canonical_csr,
    check_target,
    check_total,
    checked_sparse,
    holds_texts,
    is_empty,
    warn_of_unknown_texts,
)

# A csr_array or an ndarray of str objects; static types cannot follow which one an estimator sees.
Features = Any
_LETTER = re.compile(r"\w")


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Checked training data in canonical row order.

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
    groups : ndarray of int64, shape (n,), or None
        Families of samples, which a held-out part keeps together.
    own : csr_array of shape (n, n_labels), or None
        Pairs of a row and a label with its own text that are no answers (see `OwnLabels`).
    label_names : list of str or None
        Names of the labels.
    source : tuple of (X, y)
        The arguments of ``fit`` as they came, for callbacks.
    attributes : dict
        Fitted attributes that describe the arguments, such as ``classes_``.
    """

    X: Features
    y: sp.csr_array
    sample_weight: NDArray[np.float64]
    label_features: Features | None = None
    graph: LabelGraph | AnchorGraph | str | None = None
    sample_graph: sp.csr_array | None = None
    groups: NDArray[np.int64] | None = None
    own: sp.csr_array | None = None
    label_names: list[str] | None = None
    source: tuple[Any, Any] = (None, None)
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return int(self.y.shape[0])

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return int(self.y.shape[1])

    @property
    def label_frequency(self) -> NDArray[np.float64]:
        """Weighted number of rows of every label, shape (n_labels,)."""
        return self.y.T @ self.sample_weight

    def take(self, rows: NDArray[np.integer]) -> TrainingSet:
        """Return the given rows, with everything that belongs to the labels unchanged."""
        return replace(
            self,
            X=self.X[rows],
            y=self.y[rows],
            sample_weight=self.sample_weight[rows],
            sample_graph=None if self.sample_graph is None else self.sample_graph[rows],
            groups=None if self.groups is None else self.groups[rows],
            own=None if self.own is None else self.own[rows],
        )

    def with_label_rows(self, weight: float) -> TrainingSet:
        """Return the data with one more row per label, of its own features and this weight."""
        is_sparse = sp.issparse(self.X)
        stack: Any = sp.vstack if is_sparse else np.concatenate
        X = stack([self.X, self.label_features])
        y = sp.vstack([self.y, sp.eye_array(self.n_labels, dtype=np.float32)], format="csr")
        return replace(
            self,
            X=sp.csr_array(X) if is_sparse else X,
            y=sp.csr_array(y),
            sample_weight=np.concatenate([self.sample_weight, np.full(self.n_labels, weight)]),
            sample_graph=None,
            groups=None,
            own=None,
        )


def training_set(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    graph: Any = None,
    sample_graph: Any = None,
    label_features: Any = None,
    label_separator: str | None = None,
    groups: Any = None,
    sample_weight: ArrayLike | None = None,
) -> TrainingSet:
    """Check the arguments of `fit` of an estimator, and bring the rows into canonical order.

    Raises
    ------
    ValueError, TypeError
        An argument is not what `fit` takes.
    """
    if y is None:
        check_target(y)
    X = list(X) if isinstance(X, Iterator) else X
    samples, attributes = check_samples(estimator, X)
    label_features = _or_parameter(estimator, "label_features", label_features)
    target, label_features = _named_target(y, label_separator, label_features)
    n_samples, n_labels = int(samples.shape[0]), int(target.matrix.shape[1])
    check_rows("y", target.matrix.shape[0], n_samples, "Pass one row of labels per sample.")
    weight = check_weight(sample_weight, n_samples)
    sample_graph = _check_sample_graph(sample_graph, n_samples)
    groups = _check_groups(groups, n_samples)
    # The label side is checked against the target as it came, before classes can drop out.
    graph = _graph_for(estimator, _or_parameter(estimator, "graph", graph), n_labels, n_samples)
    label_features, names = check_label_features(label_features, n_labels, n_samples)
    # The graph of samples must not move rows: training without its edges is training without it,
    # bit for bit.
    ties = [] if sample_graph is None else [sample_graph]
    rows, weight = canonical_rows([samples, target.matrix], weight, ties)
    y_rows, classes = _drop_absent_classes(target, rows)
    if y_rows.nnz == 0:
        raise ValueError(
            "`y` must hold at least one label in a row of positive weight, but all "
            f"{len(rows)} different rows have none. Check how `y` was built."
        )
    own = None
    if target.layout != "classes":
        own = OwnLabels.learned(samples[rows], label_features, y_rows)
    y_kept = y_rows if target.layout != "classes" else classes[y_rows.indices]
    X_rows, vectorizer = fit_vectorizer(estimator, samples[rows], label_features, y_kept)
    if vectorizer is not None:
        attributes["vectorizer_"] = vectorizer
    side = LabelSide(attributes, estimator._vectorize)
    data = TrainingSet(
        X=X_rows,
        y=y_rows,
        sample_weight=weight,
        label_features=side.check(label_features),
        graph=side.check_anchors(graph),
        sample_graph=None if sample_graph is None else sample_graph[rows],
        groups=None if groups is None else groups[rows],
        own=None if own is None else own.pairs(samples[rows]),
        label_names=names or target.names,
        source=(X, y),
        attributes=attributes,
    )
    attributes |= {
        "own_labels_": own,
        "classes_": classes,
        "n_labels_": data.n_labels,
        "label_names_": data.label_names,
        "label_frequency_": _as_counts(data.label_frequency),
        "n_samples_fit_": _as_counts(np.array([weight.sum()]))[0].item(),
        **({} if label_separator is None else {"label_separator_": label_separator}),
        "target_layout_": target.layout,
        "target_dtype_": target.dtype,
    }
    return data


# ---- samples


def check_samples(estimator: Any, X: Any) -> tuple[Features, dict[str, Any]]:
    """Return the samples as texts or as CSR float32, and fitted attributes that tell which."""
    if is_empty(X):
        raise ValueError("`X` must hold at least one sample, but is empty.")
    vectorizer = getattr(estimator, "vectorizer", None)
    if isinstance(X, str | bytes) or holds_texts(X):
        texts = as_texts(X, "X")
        if vectorizer is None and not estimator._accepts_texts:
            raise ValueError(
                f"`X` holds texts, but {type(estimator).__name__} works on feature matrices. "
                "Pass vectorizer=TfidfVectorizer() to its constructor, or vectorise `X` first."
            )
        return texts, {"input_layout_": "texts"}
    if vectorizer is not None:
        raise ValueError(
            "`X` must be a sequence of texts because `vectorizer` is set, but is a "
            f"{type(X).__name__}. Pass texts, or set vectorizer=None."
        )
    # scikit-learn notes the features on the estimator: on a copy, which a failure may spoil.
    noted = copy.copy(estimator)
    matrix = _matrix(noted, X)
    names = ("n_features_in_", "feature_names_in_")
    found = {name: vars(noted)[name] for name in names if name in vars(noted)}
    return matrix, {"input_layout_": "matrix", **found}


def check_new_samples(estimator: Any, X: Any) -> tuple[Features, sp.csr_array | None]:
    """Return the samples of a fitted estimator as its model wants them, and their own labels."""
    rule = estimator.own_labels_
    if estimator.input_layout_ == "matrix":
        if is_empty(X):
            X = np.zeros((0, estimator.n_features_in_))
        rows = _matrix(estimator, X, reset=False, ensure_min_samples=0)
        return rows, None if rule is None else rule.pairs(rows)
    texts = as_texts(X, "X")
    own = None if rule is None else rule.pairs(texts)
    vectorizer = getattr(estimator, "vectorizer_", None)
    if vectorizer is None or not len(texts):
        return texts, own
    rows = estimator._vectorize(vectorizer, texts)
    if len(texts) > 1 or not rows.nnz:  # a single text is answered in microseconds
        warn_of_unknown_texts(texts, np.diff(rows.indptr) == 0)
    return rows, own


def unknown_texts(estimator: Any, X: Features) -> NDArray[np.bool_]:
    """Return which checked samples are texts in which nothing is known.

    A vectoriser knows its words. An encoder spells words that it does not know, so that it knows
    something of every text with a letter or digit.
    """
    if not sp.issparse(X):
        return np.fromiter((_LETTER.search(text) is None for text in X), dtype=bool, count=len(X))
    if hasattr(estimator, "vectorizer_"):
        return np.diff(X.indptr) == 0
    return np.zeros(X.shape[0], dtype=bool)


def _matrix(estimator: Any, X: Any, **checks: Any) -> sp.csr_array:
    """Return features as canonical CSR float32."""
    X = checked_sparse(X, "X") if sp.issparse(X) else X
    try:
        with np.errstate(over="ignore"):  # what does not fit float32 is refused as infinite
            X = validate_data(estimator, X, accept_sparse="csr", dtype=np.float32, **checks)
    except (ValueError, TypeError) as error:
        try:
            n_axes = 2 if sp.issparse(X) else np.ndim(X)
        except ValueError:
            raise ValueError(
                "`X` must be a matrix of numbers, but its rows differ in length. Pass rows of one "
                "length, or a sparse matrix."
            ) from error
        cells = X if sp.issparse(X) or n_axes < 2 else np.asarray(X, dtype=object).ravel()
        if not (isinstance(X, str | bytes) or holds_texts(cells)):
            raise
        raise ValueError(
            f"`X` must be a matrix of numbers, but is a {type(X).__name__} of shape {np.shape(X)} "
            "that holds texts. Pass one column of texts to an estimator that was fitted on texts."
        ) from error
    return canonical_csr(X)


def fit_vectorizer(
    estimator: Any, X: Features, label_features: Features | None, y: Any
) -> tuple[Features, Any]:
    """Return the samples, vectorised by a fitted clone of the vectoriser, and that clone.

    It learns from label texts too, whose words may occur in no sample; `y` has no rows for them.
    """
    if sp.issparse(X):
        return X, None
    given = getattr(estimator, "vectorizer", None)
    vectorizer = estimator._default_vectorizer() if given is None else clone(given)
    if vectorizer is None:
        return X, None
    has_label_texts = isinstance(label_features, np.ndarray)
    texts = np.concatenate([X, label_features]) if has_label_texts else X
    if given is None:
        rows = canonical_csr(vectorizer.fit_transform(texts)[: len(X)])
    else:
        try:
            vectorizer = vectorizer.fit(texts, None if has_label_texts else y)
        except (TypeError, ValueError) as error:
            if not has_label_texts or not (learners := _supervised_steps(vectorizer)):
                raise
            raise ValueError(
                f"`vectorizer` must learn from texts alone because label texts have no row of `y`, "
                f"but {learners[0]} learns from `y`. Leave it out, or fit the vectoriser before "
                "and wrap it in FrozenEstimator."
            ) from error
        rows = estimator._vectorize(vectorizer, X)
    warn_of_unknown_texts(X, np.diff(rows.indptr) == 0)
    return rows, vectorizer


def _supervised_steps(vectorizer: Any) -> list[str]:
    """Return the names of the classes inside a vectoriser that learn from `y`."""
    from sklearn.feature_selection import SelectorMixin, VarianceThreshold

    steps = getattr(vectorizer, "steps", getattr(vectorizer, "transformer_list", None))
    if steps is not None:
        return [name for _, step in steps for name in _supervised_steps(step)]
    selects = isinstance(vectorizer, SelectorMixin) and not isinstance(
        vectorizer, VarianceThreshold
    )
    return [type(vectorizer).__name__] if selects else []


# ---- the label side


def _named_target(y: Any, separator: str | None, label_features: Any) -> tuple[Target, Any]:
    """Return the target, and label features in the order of its columns where both have names."""
    if isinstance(label_features, Mapping):
        label_features = LabelTexts(label_features)
    names = label_features.names if isinstance(label_features, LabelTexts) else None
    rows = rows_of_names(y, separator)
    if rows is not None:
        if label_features is not None and names is None:
            raise ValueError(
                "`label_features` must say which label a text belongs to because `y` holds names. "
                "Pass a dict {name: text}, or LabelTexts(texts, names)."
            )
        return target_of_names(rows, names), label_features
    target = check_target(y)
    columns = target.names
    if target.layout == "classes" and target.classes.dtype.kind in "OU":
        columns = target.classes.tolist()
    if names is None or columns is None or names == columns or set(names) != set(columns):
        return target, label_features
    place = {name: label for label, name in enumerate(names)}
    return target, LabelTexts(label_features.texts[[place[name] for name in columns]], columns)


@dataclass(frozen=True)
class LabelSide:
    """Brings features of labels, or of anchors, into the form and space of samples.

    Attributes
    ----------
    attributes : dict
        Fitted attributes that describe the samples.
    vectorize : callable
        ``vectorize(vectorizer, texts)``.
    """

    attributes: dict[str, Any]
    vectorize: Any

    def check(
        self, features: Features | None, name: str = "label_features", of: str = "label"
    ) -> Features | None:
        """Return label features, or those of something else, in the form of samples."""
        if features is None:
            return None
        if self.attributes["input_layout_"] == "texts":
            if isinstance(features, sp.csr_array):
                raise ValueError(
                    f"`{name}` must be texts because `X` holds texts, but is a matrix of "
                    f"shape {features.shape}. Pass one text per {of}."
                )
            vectorizer = self.attributes.get("vectorizer_")
            return features if vectorizer is None else self.vectorize(vectorizer, features)
        if not isinstance(features, sp.csr_array):
            raise ValueError(
                f"`{name}` must be a matrix because `X` is one, but holds texts. Vectorise "
                "them, or pass texts on both sides and a `vectorizer`."
            )
        n_columns, n_features = features.shape[1], self.attributes["n_features_in_"]
        if n_columns != n_features:
            raise ValueError(
                f"`{name}` has {n_columns} columns but `X` has {n_features}. "
                "Both sides must share one feature space; a vectoriser in front of the estimator "
                "changes it from fold to fold, so pass `vectorizer` to the constructor instead."
            )
        return features

    def check_anchors(
        self, graph: LabelGraph | AnchorGraph | str | None
    ) -> LabelGraph | AnchorGraph | str | None:
        """Return the graph with its anchors, if it has any, in the form of samples."""
        if not isinstance(graph, AnchorGraph):
            return graph
        anchors = self.check(graph.texts, "the texts of `graph`", "anchor")
        if anchors is graph.texts:
            return graph
        return AnchorGraph(graph.to_csr(), texts=anchors, groups=graph.groups)


def _or_parameter(estimator: Any, name: str, value: Any) -> Any:
    """Return the fit keyword, or else the constructor parameter of that name."""
    return getattr(estimator, name, None) if value is None else value


def _graph_for(
    estimator: Any, graph: Any, n_labels: int, n_samples: int
) -> LabelGraph | AnchorGraph | str | None:
    """Return the checked graph, after a check of what this estimator can use."""
    if isinstance(graph, str):
        if graph not in estimator._named_graphs:
            raise ValueError(
                f"`graph` of {type(estimator).__name__} must be a matrix, a LabelGraph or one of "
                f"{list(estimator._named_graphs)}, but {graph!r} was given."
            )
        return graph
    graph = check_graph(graph, n_labels, n_samples)
    if isinstance(graph, AnchorGraph) and not estimator._accepts_anchors:
        raise ValueError(
            f"`graph` of {type(estimator).__name__} must connect labels with labels, but an "
            "AnchorGraph with anchor texts was given. Use LabelGraph."
        )
    return graph


# ---- rows


def check_truth(
    estimator: Any,
    y: Any,
    sample_weight: ArrayLike | None,
    n_samples: int,
    unknown_labels: UnknownLabels = "ignore",
) -> tuple[sp.csr_array, NDArray[np.float64]]:
    """Return the checked labels and weights of samples that a fitted estimator is scored on."""
    n_labels = estimator.n_labels_
    rows = rows_to_score(y, estimator.label_separator_)
    if rows is None:
        truth = check_target(y).matrix
    else:
        # What is not known cannot be right, so its columns are of no use here.
        truth = truth_of_names(rows, estimator.label_names_, unknown_labels)[0][:, :n_labels]
    check_rows("y", truth.shape[0], n_samples, "Pass one row of labels per sample.")
    if truth.shape[1] != n_labels:
        raise ValueError(
            f"`y` has {truth.shape[1]} labels but the model was fitted with {n_labels}. "
            "Pass the same label columns as in fit."
        )
    return truth, check_weight(sample_weight, n_samples)


def check_rows(name: str, n_rows: int, n_samples: int, cure: str) -> None:
    """Raise unless an argument has one row per sample."""
    if n_rows != n_samples:
        raise ValueError(f"`{name}` has {n_rows} rows but `X` has {n_samples}. {cure}")


def check_weight(sample_weight: ArrayLike | None, n_samples: int) -> NDArray[np.float64]:
    """Return checked weights, ones by default."""
    rows = np.empty((n_samples, 1))
    weight = _check_sample_weight(sample_weight, rows, dtype=np.float64, ensure_non_negative=True)
    if not np.any(weight):
        raise ValueError(
            "`sample_weight` must give some row a positive weight, but all weights are zero. "
            "Pass None to weigh all rows equally."
        )
    check_total("sample_weight", weight)
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
    edges = as_csr(sample_graph, "sample_graph")
    check_rows("sample_graph", edges.shape[0], n_samples, "Pass one row per sample.")
    if not np.all(np.isfinite(edges.data)) or np.any(edges.data < 0):
        raise ValueError(
            "`sample_graph` must hold finite, non-negative weights. Drop or rescale other edges."
        )
    check_total("sample_graph", edges.data)
    return edges


def _check_groups(groups: Any, n_samples: int) -> NDArray[np.int64] | None:
    """Return the groups as numbers from 0 on."""
    if groups is None:
        return None
    values = column_or_1d(groups)
    check_rows("groups", len(values), n_samples, "Pass one value per sample.")
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


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
