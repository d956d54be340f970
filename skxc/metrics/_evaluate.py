"""All metrics of one set of predictions in one ranking pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skxc.metrics._calibration import ece
from skxc.metrics._inputs import Ranking, check_k, rank
from skxc.metrics._propensity import check_weights, floats, psndcg, psp
from skxc.metrics._ranking import coverage, macro_f1, mean, ndcg, precision, recall
from skxc.utils._label_lists import UnknownLabels, rows_to_score, truth_of_names

# Functions of a ranking and k; the metric is the mean of what they return.
UNWEIGHTED: dict[str, Callable[[Ranking, int], Any]] = {
    "precision": precision,
    "recall": recall,
    "ndcg": ndcg,
    "coverage": coverage,
    "macro_f1": macro_f1,
    "ece": ece,
}
WEIGHTED = {"psp": psp, "psndcg": psndcg}


def evaluate(
    y_true: Any,
    y_score: Any,
    *,
    ks: Iterable[int] = (1, 3, 5),
    metrics: Sequence[str] | None = None,
    inverse_propensity: ArrayLike | None = None,
    filter_pairs: Any = None,
    drop_empty_rows: bool = False,
    label_names: Sequence[str] | None = None,
    label_separator: str | None = None,
    unknown_labels: UnknownLabels = "ignore",
) -> dict[str, float]:
    """Return several metrics of the same predictions, ranking them once.

    Parameters
    ----------
    y_true : sparse or dense indicator of shape (n, L), or n lists of names
        True labels; with names, `label_names` says which columns they are.
    y_score, filter_pairs, drop_empty_rows
        As in :func:`precision_at_k`.
    ks : iterable of int, default=(1, 3, 5)
        Values of k for the names in `metrics` without one.
    metrics : sequence of str, optional
        Names out of "precision", "recall", "ndcg", "coverage", "macro_f1", "psp", "psndcg" and
        "ece", or such a name with a k of its own, like "recall@100". "ece" needs probabilities as
        `y_score`. By default all but "ece"; "psp" and "psndcg" only with `inverse_propensity`.
    inverse_propensity : array-like of shape (L,), optional
        Weights for "psp" and "psndcg", from :func:`inverse_propensity` of the training data.
    label_names : sequence of L str, optional
        Names of the columns of `y_score`: the `label_names_` of the model.
    label_separator : str, optional
        What separates names where `y_true` has one text per row.
    unknown_labels : {"ignore", "error"}, default="ignore"
        What to do about names that are not in `label_names`: count them as misses, with the largest
        of the weights, and warn; or raise.

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
    rows, n_unknown = rows_to_score(y_true, label_separator), 0
    if rows is not None:
        y_true, n_unknown = truth_of_names(rows, label_names, unknown_labels)
    depth = max((k for _, k in wanted), default=1)
    ranking = rank(y_true, y_score, depth, filter_pairs, drop_empty_rows, n_unknown)
    weights = None
    if inverse_propensity is not None:
        given = floats(inverse_propensity)
        more = np.full(n_unknown, given.max(initial=1))
        weights = check_weights(np.append(given, more) if n_unknown else given, ranking)
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
