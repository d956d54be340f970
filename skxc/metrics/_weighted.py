"""Figures of weighted rows, for choices on held-out rows."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skxc.metrics._inputs import rank
from skxc.metrics._propensity import gains_and_best
from skxc.metrics._ranking import discounts, ideal_gain, ndcg, precision


def weighted_at_k(
    metric: Literal["precision", "ndcg", "psndcg"],
    y_true: Any,
    labels: NDArray[np.integer],
    k: int,
    weight: NDArray[np.floating] | None,
    filter_pairs: Any = None,
    inverse_propensity: NDArray[np.float64] | None = None,
) -> float:
    """Return a metric in which a row counts as often as its weight says; see `values_at_k`."""
    values = values_at_k(metric, y_true, labels, k, weight, filter_pairs, inverse_propensity)
    return float(np.average(values, weights=weight))


def values_at_k(
    metric: Literal["precision", "ndcg", "psndcg"],
    y_true: Any,
    labels: NDArray[np.integer],
    k: int,
    weight: NDArray[np.floating] | None,
    filter_pairs: Any = None,
    inverse_propensity: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return one value per row, shape (n,), whose weighted mean is a metric.

    Parameters
    ----------
    metric : {"precision", "ndcg", "psndcg"}
        The last is a ratio of two means; a row's value is its gain over the mean of what all gain
        at most.
    y_true : csr_array of shape (n, L)
    labels : ndarray of int, shape (n, m)
        Best first, padded with -1.
    k : int
    weight : ndarray of float, shape (n,), or None
        None: all rows count alike.
    filter_pairs : csr_array of shape (n, L), or None
    inverse_propensity : ndarray of float64, shape (L,), or None
        For "psndcg".
    """
    # With scores: a list of all labels could be taken for scores itself.
    order = np.broadcast_to(-np.arange(labels.shape[1], dtype=np.float32), labels.shape)
    ranking = rank(y_true, (labels, order), k, filter_pairs, False)
    if metric == "precision":
        return precision(ranking, k)
    if metric == "ndcg":
        return ndcg(ranking, k)
    assert inverse_propensity is not None
    ideal = ideal_gain(ranking, k)
    achieved, most = (
        part @ discounts(part.shape[1]) / ideal
        for part in gains_and_best(ranking, inverse_propensity, k)
    )
    possible = np.average(most, weights=weight)
    return achieved / possible if possible > 0 else np.zeros(len(achieved))
