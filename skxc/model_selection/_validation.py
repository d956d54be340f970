"""Cross-validation for CSR targets.

scikit-learn's `cross_validate` refuses sparse `y`, and its tools cut any fit argument that has as
many rows as there are samples. Here arguments are cut by name: `groups`, `sample_graph`
and `sample_weight` follow the folds, all else, such as a graph over the labels, stays whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing, indexable
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _num_samples

from skxc.metrics import get_scorer, topk_scorer
from skxc.metrics._scorers import innermost
from skxc.utils._label_lists import rows_of_names
from skxc.utils._validation import checked_sparse, text_column

Rows = NDArray[np.int64]
Scorer = Callable[[Any, Any, Any], Any]
Scoring = Scorer | Mapping[str, Scorer] | Sequence[str] | str

ROW_ALIGNED = frozenset({"groups", "sample_graph", "sample_weight"})


def cross_validate(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    groups: ArrayLike | None = None,
    scoring: Scoring | None = None,
    cv: Any = None,
    n_jobs: int | None = None,
    params: Mapping[str, Any] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Fit on the training part of every fold and score the rest.

    Parameters
    ----------
    estimator : estimator
        Cloned for every fold.
    X : sparse matrix, array-like or sequence of texts, n rows
    y : sparse or dense indicator of shape (n, L), array-like of shape (n,), or lists of names
        Names are known by the training rows of a fold, or by named `label_features`.
    groups : array-like of shape (n,), optional
        For group-wise splitters.
    scoring : callable, dict, str or sequence of str, optional
        ``scorer(estimator, X, y)`` that returns a float or a dict of floats; a dict of scorers that
        return floats; or names like "precision@5". By default :func:`skxc.metrics.topk_scorer`.
    cv : int, splitter or iterable of (train, test) row arrays, optional
        An int means K folds of consecutive rows, without shuffling; by default 5. Rows often come
        sorted: pass ``KFold(5, shuffle=True, random_state=0)`` unless yours do not.
    n_jobs : int, optional
        Folds fitted at once, through joblib; None means 1.
    params : dict, optional
        Arguments of `fit`. Those named `groups`, `sample_graph` or `sample_weight`, also after a
        step name and `__`, have one row per sample and are cut with the folds; all others are
        passed whole.

    Returns
    -------
    dict of str to ndarray of float64, shape (n_splits,)
        "test_precision@1" and so on ("test_score" for one name, or a scorer that returns a float),
        "fit_time" and "score_time" in seconds of wall clock.

    Raises
    ------
    ValueError
        Arguments with different numbers of rows, or an unknown scorer. Errors of `fit` and of the
        scorer are raised, not turned into NaN.

    Examples
    --------
    >>> from sklearn.datasets import make_multilabel_classification
    >>> from sklearn.linear_model import RidgeClassifier
    >>> from skxc.model_selection import cross_validate
    >>> X, y = make_multilabel_classification(60, n_classes=8, random_state=0)
    >>> scores = cross_validate(RidgeClassifier(), X, y, scoring=["precision@1", "ndcg@3"], cv=3)
    >>> sorted(scores)
    ['fit_time', 'score_time', 'test_ndcg@3', 'test_precision@1']
    """
    folds = _Folds.of(estimator, X, y, groups, cv, params)
    rows = folds.run(_fit_and_score, _check_scoring(scoring), n_jobs)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def cross_val_predict(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    groups: ArrayLike | None = None,
    cv: Any = None,
    n_jobs: int | None = None,
    method: str = "decision_function",
    params: Mapping[str, Any] | None = None,
) -> sp.csr_array | NDArray[Any]:
    """Return for every row the prediction of a model that was not fitted on it.

    Parameters
    ----------
    estimator, X, y, groups, n_jobs, params
        As in :func:`cross_validate`.
    cv : int, splitter or iterable of (train, test) row arrays, optional
        As in :func:`cross_validate`; every row must be in exactly one test part.
    method : str, default="decision_function"
        Method that predicts and returns a sparse matrix or an array, such as "predict_proba".

    Returns
    -------
    csr_array or ndarray of shape (n, ...)
        Sparse if the method returns sparse matrices; rows in the order of `X`. Where `y` holds
        names, columns are those of a fit on all rows.

    Raises
    ------
    ValueError
        A row is in no test part, or in several; or an error of :func:`cross_validate`.

    Examples
    --------
    >>> from sklearn.datasets import make_multilabel_classification
    >>> from sklearn.linear_model import RidgeClassifier
    >>> from skxc.model_selection import cross_val_predict
    >>> X, y = make_multilabel_classification(60, n_classes=8, random_state=0)
    >>> cross_val_predict(RidgeClassifier(), X, y, cv=3).shape
    (60, 8)
    """
    folds = _Folds.of(estimator, X, y, groups, cv, params)
    tested = np.concatenate([test for _, test in folds.splits])
    if not np.array_equal(np.sort(tested), np.arange(folds.y.shape[0])):
        raise ValueError(
            f"`cv` must test every row exactly once. Got {tested.size} test rows, "
            f"{np.unique(tested).size} different ones, for {folds.y.shape[0]} rows; use KFold, or "
            "cross_validate for repeated splits."
        )
    parts = folds.run(_fit_and_predict, method, n_jobs)
    order = np.argsort(tested)
    if sp.issparse(parts[0]):
        return sp.csr_array(sp.vstack(parts, format="csr"))[order]
    return np.concatenate(parts)[order]


def learning_curve(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    groups: ArrayLike | None = None,
    train_sizes: Sequence[float] = (0.1, 0.33, 0.55, 0.78, 1.0),
    scoring: Scorer | str = "precision@1",
    cv: Any = None,
    n_jobs: int | None = None,
    random_state: int | None = 0,
    params: Mapping[str, Any] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Fit on growing parts of the training rows of every fold, and score these and the test rows.

    Parameters
    ----------
    estimator, X, y, groups, cv, n_jobs, params
        As in :func:`cross_validate`.
    train_sizes : sequence of float or int, default=(0.1, 0.33, 0.55, 0.78, 1.0)
        Shares of the smallest training part, or numbers of rows.
    scoring : str or callable, default="precision@1"
        One name, or a scorer that returns a float.
    random_state : int or None, default=0
        Seed of the order in which training rows are added, since rows often come sorted.

    Returns
    -------
    train_sizes : ndarray of int64, shape (n_sizes,)
    train_scores, test_scores : ndarray of float64, shape (n_sizes, n_splits)
        As scikit-learn's `LearningCurveDisplay` takes them.

    Raises
    ------
    ValueError
        A size is no share and no number of training rows, or an error of :func:`cross_validate`.

    Examples
    --------
    >>> from sklearn.datasets import make_multilabel_classification
    >>> from sklearn.linear_model import RidgeClassifier
    >>> from skxc.model_selection import learning_curve
    >>> X, y = make_multilabel_classification(60, n_classes=8, random_state=0)
    >>> sizes, train, test = learning_curve(RidgeClassifier(), X, y, train_sizes=[0.5, 1.0], cv=3)
    >>> sizes.tolist(), test.shape
    ([20, 40], (2, 3))
    """
    folds = _Folds.of(estimator, X, y, groups, cv, params)
    most = min(len(train) for train, _ in folds.splits)
    sizes = np.unique([_n_rows(size, most) for size in train_sizes])
    rng = np.random.default_rng(random_state)
    orders = [(rng.permutation(train), test) for train, test in folds.splits]
    parts = [(train[:size], test) for size in sizes for train, test in orders]
    folds = replace(folds, splits=parts)
    rows = folds.run(_fit_and_score_both, _check_scoring(scoring), n_jobs)
    shape = len(sizes), len(orders), 2
    scores = np.array(rows, dtype=np.float64).reshape(shape)
    return sizes, scores[..., 0], scores[..., 1]


def _n_rows(size: float, most: int) -> int:
    """Return the number of rows that a share, or a number, of training rows stands for."""
    is_number = isinstance(size, Integral)
    n_rows = int(size) if is_number else int(size * most)
    if not 1 <= n_rows <= most:
        raise ValueError(
            f"`train_sizes` must hold shares in (0, 1] or numbers of rows from 1 to {most}. Got "
            f"{size!r}; leave it out."
        )
    return n_rows


@dataclass(frozen=True)
class _Folds:
    """Checked inputs in a form that can be cut, and the rows of every fold."""

    estimator: Any
    X: Any
    y: Any
    params: dict[str, Any]
    splits: list[tuple[Rows, Rows]]
    labels: list[str] | None

    @classmethod
    def of(
        cls, estimator: Any, X: Any, y: Any, groups: Any, cv: Any, params: Mapping[str, Any] | None
    ) -> _Folds:
        labels: list[str] | None = None
        # Before rows are cut, since the code in C that cuts trusts the indices.
        X, y = (
            checked_sparse(value, name) if sp.issparse(value) else value
            for name, value in (("X", X), ("y", y))
        )
        X, y, groups = indexable(X, y, groups)
        names = rows_of_names(y, _separator(params))
        if names is not None:
            # Rows stay as they came: texts to split, or lists, in an array that can be cut.
            y, labels = text_column(y), _all_names(estimator, names, params)
        y = np.asarray(y) if isinstance(y, list) else y
        params = {
            name: _check_rows(name, value, y.shape[0]) if _is_row_aligned(name, value) else value
            for name, value in (params or {}).items()
        }
        # An indicator of one or two labels is no reason for stratified folds, which refuse CSR.
        stratified = names is None and getattr(y, "ndim", 2) == 1 and is_classifier(estimator)
        splits = list(check_cv(cv, y, classifier=stratified).split(X, y, groups))
        return cls(estimator, X, y, params, splits, labels)

    def run(self, function: Callable[..., Any], wanted: Any, n_jobs: int | None) -> list[Any]:
        """Return ``function(self, train, test, wanted)`` of every fold."""
        call = delayed(function)
        return Parallel(n_jobs=n_jobs)(call(self, *rows, wanted) for rows in self.splits)

    def fit(self, train: Rows) -> Any:
        """Return a clone of the estimator, fitted on the training rows of a fold."""
        params = {
            name: _safe_indexing(value, train) if _is_row_aligned(name, value) else value
            for name, value in self.params.items()
        }
        X, y = _safe_indexing(self.X, train), _safe_indexing(self.y, train)
        return clone(self.estimator).fit(X, y, **params)


def _fit_and_score(folds: _Folds, train: Rows, test: Rows, scorer: Scorer) -> dict[str, float]:
    start = time.perf_counter()
    model = folds.fit(train)
    fitted = time.perf_counter()
    scores = scorer(model, _safe_indexing(folds.X, test), _safe_indexing(folds.y, test))
    times = {"fit_time": fitted - start, "score_time": time.perf_counter() - fitted}
    scores = scores if isinstance(scores, Mapping) else {"score": scores}
    return times | {f"test_{name}": float(score) for name, score in scores.items()}


def _fit_and_score_both(
    folds: _Folds, train: Rows, test: Rows, scorer: Scorer
) -> tuple[float, float]:
    model = folds.fit(train)
    first, second = (
        float(scorer(model, _safe_indexing(folds.X, rows), _safe_indexing(folds.y, rows)))
        for rows in (train, test)
    )
    return first, second


def _fit_and_predict(folds: _Folds, train: Rows, test: Rows, method: str) -> Any:
    model = folds.fit(train)
    answer = getattr(model, method)(_safe_indexing(folds.X, test))
    known = getattr(innermost(model), "label_names_", None)
    if folds.labels is None or known is None or not sp.issparse(answer):
        return answer
    # The labels of this fold, in columns of those of all folds.
    place = {name: label for label, name in enumerate(folds.labels)}
    columns = np.array([place[name] for name in known], dtype=answer.indices.dtype)
    parts = (answer.data, columns[answer.indices], answer.indptr)
    answer = sp.csr_array(parts, shape=(answer.shape[0], len(place)))
    answer.sort_indices()
    return answer


def _separator(params: Mapping[str, Any] | None) -> str | None:
    """Return the `label_separator` among the arguments of `fit`, also after a step name."""
    found = [
        value
        for name, value in (params or {}).items()
        if name.rsplit("__", 1)[-1] == "label_separator"
    ]
    return found[0] if found else None


def _all_names(
    estimator: Any, rows: list[list[str]], params: Mapping[str, Any] | None
) -> list[str]:
    """Return the labels that a fit on all rows knows."""
    given = [getattr(innermost(estimator), "label_features", None)]
    given += [
        value
        for name, value in (params or {}).items()
        if name.rsplit("__", 1)[-1] == "label_features"
    ]
    for value in reversed(given):
        names = list(value) if isinstance(value, Mapping) else getattr(value, "names", None)
        if names is not None:
            return names
    return sorted({name for row in rows for name in row})


@dataclass(frozen=True)
class _Several:
    """A dict of scorers as one; a class because a function inside a function cannot be pickled."""

    scorers: Mapping[str, Scorer]

    def __call__(self, estimator: Any, X: Any, y: Any) -> dict[str, float]:
        return {name: scorer(estimator, X, y) for name, scorer in self.scorers.items()}


def _is_row_aligned(name: str, value: Any) -> bool:
    return value is not None and name.rsplit("__", 1)[-1] in ROW_ALIGNED


def _check_rows(name: str, value: Any, n: int) -> Any:
    """Return a per-sample argument in a form that can be cut."""
    if _num_samples(value) != n:
        raise ValueError(
            f"`{name}` must have one row per sample. Got {_num_samples(value)} rows for {n} "
            "samples; several matrices go side by side into one."
        )
    return indexable(checked_sparse(value, name) if sp.issparse(value) else value)[0]


def _check_scoring(scoring: Scoring | None) -> Scorer:
    """Return one scorer: of several metrics if it stands for several."""
    if scoring is None:
        return topk_scorer()
    if callable(scoring):
        return scoring
    if isinstance(scoring, Mapping):
        return _Several(dict(scoring))
    if isinstance(scoring, str):
        return get_scorer(scoring)
    names = list(scoring)
    return topk_scorer(ks=(), metrics=[get_scorer(name).metrics[0] for name in names])
