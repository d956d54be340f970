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
    """Return a metric in which a row counts as often as its weight says.

    Parameters
    ----------
    metric : {"precision", "ndcg", "psndcg"}
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
        return float(np.average(precision(ranking, k), weights=weight))
    if metric == "ndcg":
        return float(np.average(ndcg(ranking, k), weights=weight))
    assert inverse_propensity is not None
    gains, best = gains_and_best(ranking, inverse_propensity, k)
    ideal = ideal_gain(ranking, k)
    achieved, possible = (
        np.average(part @ discounts(k) / ideal, weights=weight) for part in (gains, best)
    )
    return float(achieved / possible) if possible > 0 else 0.0
