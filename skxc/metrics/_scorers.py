"""Scorers: plain picklable callables ``scorer(estimator, X, y)`` for searches and cross-validation.

They read one `decision_function` for all metrics, so a fold is predicted once, and never look at
`classes_`, which makes scikit-learn's `make_scorer` slow at a million labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skxc.metrics._evaluate import WEIGHTED, evaluate, parse_metrics
from skxc.metrics._propensity import inverse_propensity
from skxc.utils._label_lists import UnknownLabels


@dataclass(frozen=True, eq=False)
class TopKScorer:
    """A scorer of several metrics; made by :func:`topk_scorer`.

    Attributes
    ----------
    metrics : tuple of str
        Names with a k, such as "precision@1".
    propensity : "from_estimator" or ndarray of shape (L,)
    a, b : float
    drop_empty_rows : bool
    unknown_labels : {"ignore", "error"}
    """

    metrics: tuple[str, ...]
    propensity: str | NDArray[np.float64]
    a: float
    b: float
    drop_empty_rows: bool
    unknown_labels: UnknownLabels

    def __call__(self, estimator: Any, X: Any, y: Any, **_: Any) -> dict[str, float]:
        """Return the metrics of the scores of `X` against `y`.

        Further keywords are ignored: scikit-learn's `ScoringMonitor` hands over whatever an
        estimator reports, such as its loss.
        """
        trained = innermost(estimator)
        return evaluate(
            y,
            _scores(estimator, X),
            metrics=self.metrics,
            inverse_propensity=self._weights(trained),
            drop_empty_rows=self.drop_empty_rows,
            label_names=getattr(trained, "label_names_", None),
            label_separator=getattr(trained, "label_separator_", None),
            unknown_labels=self.unknown_labels,
        )

    def _weights(self, trained: Any) -> ArrayLike | None:
        """Return bound weights, or those of the rows that the estimator was trained on."""
        if not any(metric.partition("@")[0] in WEIGHTED for metric in self.metrics):
            return None
        if not isinstance(self.propensity, str):
            return self.propensity
        if not hasattr(trained, "label_frequency_"):
            raise ValueError(
                "Propensity-scored metrics need `label_frequency_` and `n_samples_fit_`. Got "
                f"{type(trained).__name__} without; pass `propensity=inverse_propensity(...)` of "
                "the training data, or leave 'psp' and 'psndcg' out of `metrics`."
            )
        return inverse_propensity(trained.label_frequency_, trained.n_samples_fit_, self.a, self.b)


class SingleScorer(TopKScorer):
    """A scorer of one metric, returning a float; made by :func:`get_scorer`."""

    def __call__(self, estimator: Any, X: Any, y: Any, **_: Any) -> float:  # type: ignore[override]
        """Return the metric of the scores of `X` against `y`."""
        (value,) = super().__call__(estimator, X, y).values()
        return value


def topk_scorer(
    ks: Iterable[int] = (1, 3, 5),
    metrics: Sequence[str] = ("precision", "ndcg", "psp"),
    propensity: str | ArrayLike = "from_estimator",
    *,
    a: float = 0.55,
    b: float = 1.5,
    drop_empty_rows: bool = False,
    unknown_labels: UnknownLabels = "ignore",
) -> TopKScorer:
    """Return a scorer of several metrics that predicts once.

    Parameters
    ----------
    ks : iterable of int, default=(1, 3, 5)
        Values of k for the names in `metrics` without one.
    metrics : sequence of str, default=("precision", "ndcg", "psp")
        Names as in :func:`evaluate`, except "ece", where lower is better.
    propensity : "from_estimator" or array-like of shape (L,), default="from_estimator"
        Inverse propensities for "psp" and "psndcg". By default they come from `label_frequency_`
        and `n_samples_fit_` of the fitted estimator (of the best one of a search, the last step of
        a pipeline): from the training rows of the fold, never from the rows that are scored.
    a, b : float, default=0.55 and 1.5
        Constants of :func:`inverse_propensity` for "from_estimator".
    drop_empty_rows : bool, default=False
        Leave rows without labels out.
    unknown_labels : {"ignore", "error"}, default="ignore"
        Where `y` holds names, as in :func:`evaluate`: what to do about those that the fitted
        estimator does not know.

    Returns
    -------
    callable
        ``scorer(estimator, X, y) -> dict``, with keys like "precision@1". It can be pickled and
        serves as `scoring` of a search, with ``refit="precision@1"``.

    Raises
    ------
    ValueError
        Unknown metrics, "ece", or an unknown `propensity`.

    Examples
    --------
    >>> from skxc.metrics import topk_scorer
    >>> topk_scorer(ks=[1], metrics=["precision", "recall@10"]).metrics
    ('precision@1', 'recall@10')
    """
    wanted = parse_metrics(metrics, ks)
    if any(name == "ece" for name, _ in wanted):
        raise ValueError(
            "A scorer must be higher for better estimators. Got 'ece', which is lower; call "
            "`ece_at_k` on the result of predict_proba instead."
        )
    if isinstance(propensity, str) and propensity != "from_estimator":
        raise ValueError(
            "`propensity` must be 'from_estimator' or an array of inverse propensities. "
            f"Got {propensity!r}; for other constants pass `a` and `b`."
        )
    if not isinstance(propensity, str):
        propensity = np.asarray(propensity, dtype=np.float64)
    names = tuple(f"{name}@{k}" for name, k in wanted)
    return TopKScorer(names, propensity, a, b, drop_empty_rows, unknown_labels)


def get_scorer(
    metric: str,
    propensity: str | ArrayLike = "from_estimator",
    *,
    a: float = 0.55,
    b: float = 1.5,
    drop_empty_rows: bool = False,
    unknown_labels: UnknownLabels = "ignore",
) -> SingleScorer:
    """Return a scorer of one metric, such as ``get_scorer("precision@5")``.

    Parameters
    ----------
    metric : str
        A name of :func:`topk_scorer` with a k.
    propensity, a, b, drop_empty_rows, unknown_labels
        As in :func:`topk_scorer`.

    Returns
    -------
    callable
        ``scorer(estimator, X, y) -> float``.

    Raises
    ------
    ValueError
        An unknown metric or one without a k.
    """
    scorer = topk_scorer(
        (),
        [metric],
        propensity,
        a=a,
        b=b,
        drop_empty_rows=drop_empty_rows,
        unknown_labels=unknown_labels,
    )
    if len(scorer.metrics) != 1:
        raise ValueError(
            f"`metric` must name a k. Got {metric!r}; write '{metric}@5', for example."
        )
    return SingleScorer(**vars(scorer))


def _scores(estimator: Any, X: Any) -> Any:
    """Return the scores, or the probabilities of an estimator that has nothing else."""
    if hasattr(estimator, "decision_function"):
        return estimator.decision_function(X)
    return estimator.predict_proba(X)


def innermost(estimator: Any) -> Any:
    """Return the estimator inside searches and pipelines, fitted or not."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "steps"):
            estimator = estimator.steps[-1][1]
        else:
            return estimator
