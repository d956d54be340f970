"""All metrics of one set of predictions in one ranking pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from numpy.typing import ArrayLike

from skxc.metrics._calibration import ece
from skxc.metrics._inputs import Ranking, check_k, rank
from skxc.metrics._propensity import check_weights, psndcg, psprecision
from skxc.metrics._ranking import coverage, macro_f1, mean, ndcg, precision, recall

# Functions of a ranking and k; the metric is the mean of what they return.
UNWEIGHTED: dict[str, Callable[[Ranking, int], Any]] = {
    "precision": precision,
    "recall": recall,
    "ndcg": ndcg,
    "coverage": coverage,
    "macro_f1": macro_f1,
    "ece": ece,
}
WEIGHTED = {"psp": psprecision, "psndcg": psndcg}


def evaluate(
    y_true: Any,
    y_score: Any,
    *,
    ks: Iterable[int] = (1, 3, 5),
    metrics: Sequence[str] | None = None,
    inverse_propensity: ArrayLike | None = None,
    filter_pairs: Any = None,
    drop_empty_rows: bool = False,
) -> dict[str, float]:
    """Return several metrics of the same predictions, ranking them once.

    Parameters
    ----------
    y_true, y_score, filter_pairs, drop_empty_rows
        As in :func:`precision_at_k`.
    ks : iterable of int, default=(1, 3, 5)
        Values of k for the names in `metrics` without one.
    metrics : sequence of str, optional
        Names out of "precision", "recall", "ndcg", "coverage", "macro_f1", "psp", "psndcg" and
        "ece", or such a name with a k of its own, like "recall@100". "ece" needs probabilities as
        `y_score`. By default all but "ece"; "psp" and "psndcg" only with `inverse_propensity`.
    inverse_propensity : array-like of shape (L,), optional
        Weights for "psp" and "psndcg", from :func:`inverse_propensity` of the training data.

    Returns
    -------
    dict of str to float
        Keys like "precision@1"; values in [0, 1].

    Raises
    ------
    ValueError
        Unknown names, propensity-scored metrics without weights, or an error of
        :func:`precision_at_k`.

    Examples
    --------
    >>> import numpy as np
    >>> from skxc.metrics import evaluate
    >>> y_true = np.array([[1, 0, 1, 0], [0, 1, 0, 0]])
    >>> evaluate(y_true, np.array([[0, 1], [1, 2]]), ks=[1], metrics=["precision", "recall@2"])
    {'precision@1': 1.0, 'recall@2': 0.75}
    """
    if metrics is None:
        metrics = [name for name in UNWEIGHTED if name != "ece"]
        metrics += [] if inverse_propensity is None else WEIGHTED
    wanted = parse_metrics(metrics, ks)
    ranking = rank(
        y_true, y_score, max((k for _, k in wanted), default=1), filter_pairs, drop_empty_rows
    )
    weights = None if inverse_propensity is None else check_weights(inverse_propensity, ranking)
    result = {}
    for name, k in wanted:
        if name in UNWEIGHTED:
            result[f"{name}@{k}"] = mean(UNWEIGHTED[name](ranking, k))
        elif weights is None:
            raise ValueError(
                f"'{name}' needs the weights of the labels. Got inverse_propensity=None; pass "
                "inverse_propensity(label_frequency, n_samples) of the training data."
            )
        else:
            result[f"{name}@{k}"] = WEIGHTED[name](ranking, weights, k)
    return result


def parse_metrics(metrics: Sequence[str], ks: Iterable[int]) -> list[tuple[str, int]]:
    """Return (name, k) for every wanted metric: "ndcg" for each of `ks`, "recall@100" for 100."""
    if isinstance(metrics, str):
        metrics = [metrics]
    ks = [check_k(k) for k in ks]
    wanted = []
    for metric in metrics:
        name, separator, own = metric.partition("@")
        if name not in UNWEIGHTED and name not in WEIGHTED:
            raise ValueError(
                f"A metric must be one of {', '.join([*UNWEIGHTED, *WEIGHTED])}. Got {metric!r}; "
                "write 'precision', or 'precision@5' for one k."
            )
        k = int(own) if own.isdecimal() else own
        wanted += [(name, check_k(k))] if separator else [(name, k) for k in ks]
    return wanted
