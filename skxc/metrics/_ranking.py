"""Ranking metrics, as fractions in [0, 1].

With n rows, h_ij = 1 if the prediction at rank j of row i is right, t_i the number of labels of row
i and D_j = 1 / log2(j + 1):

* precision@k = mean_i (1 / k) sum_{j <= k} h_ij
* recall@k    = mean_i (1 / t_i) sum_{j <= k} h_ij
* nDCG@k      = mean_i (sum_{j <= k} h_ij D_j) / (sum_{j <= min(k, t_i)} D_j)
* coverage@k  = labels hit at least once / labels that occur in `y_true`
* macro-F1@k  = mean over all L labels of 2 tp_l / (predicted_l + actual_l)

A row without labels counts as 0 in the first three. The names are those of napkinXC.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skxc.metrics._inputs import Ranking, check_k, rank

Floats = NDArray[np.float64]


def precision_at_k(
    y_true: Any,
    y_score: Any,
    k: int = 5,
    *,
    filter_pairs: Any = None,
    drop_empty_rows: bool = False,
) -> float:
    """Return the mean share of right labels among the k best predictions.

    Parameters
    ----------
    y_true : sparse matrix or array-like of shape (n, L)
        Indicator of 0 and 1.
    y_score : sparse matrix or array of shape (n, L), array of shape (n, m), or pair of these
        Sparse or dense scores of all L labels; or m label ids best first, padded with -1; or the
        pair (indices, scores) of ``predict_topk``. The shape decides, not the type of the numbers:
        integers of shape (n, L) that may be either are refused unless they come as a pair. Only
        stored entries of a sparse matrix are predictions; missing predictions count as misses; ties
        go to the lower label id.
    k : int, default=5
        Number of predictions to look at.
    filter_pairs : sparse matrix of shape (n, L), optional
        Predictions at its stored positions are dropped before ranking.
    drop_empty_rows : bool, default=False
        Leave rows without labels out of the mean; by default they count as 0.

    Returns
    -------
    float
        In [0, 1]. At most the mean of min(k, t_i) / k, for rows of t_i labels.

    Raises
    ------
    ValueError
        Values other than 0 and 1 in `y_true`, scores that are not finite, shapes that differ, label
        ids out of range or repeated in a row, integers that may be ids or scores, k below 1.

    Warns
    -----
    UndefinedMetricWarning
        When no row has a label; the result is then 0.
    UserWarning
        When `filter_pairs` holds pairs of `y_true`.

    Examples
    --------
    >>> import numpy as np
    >>> from skxc.metrics import precision_at_k
    >>> y_true = np.array([[1, 0, 1, 0], [0, 1, 0, 0]])
    >>> precision_at_k(y_true, np.array([[0, 1], [1, -1]]), k=2)
    0.5
    """
    return mean(precision(rank(y_true, y_score, check_k(k), filter_pairs, drop_empty_rows), k))


def recall_at_k(
    y_true: Any,
    y_score: Any,
    k: int = 5,
    *,
    filter_pairs: Any = None,
    drop_empty_rows: bool = False,
) -> float:
    """Return the mean share of the labels of a row that the k best predictions find.

    Parameters
    ----------
    y_true, y_score, k, filter_pairs, drop_empty_rows
        As in :func:`precision_at_k`.

    Returns
    -------
    float
        In [0, 1]. Meaningful only if at least k predictions per row were asked for.
    """
    return mean(recall(rank(y_true, y_score, check_k(k), filter_pairs, drop_empty_rows), k))


def ndcg_at_k(
    y_true: Any,
    y_score: Any,
    k: int = 5,
    *,
    filter_pairs: Any = None,
    drop_empty_rows: bool = False,
) -> float:
    """Return the normalised discounted cumulative gain of the k best predictions.

    Parameters
    ----------
    y_true, y_score, k, filter_pairs, drop_empty_rows
        As in :func:`precision_at_k`.

    Returns
    -------
    float
        In [0, 1]; a row that ranks all its labels first, or k of them, counts as 1.
    """
    return mean(ndcg(rank(y_true, y_score, check_k(k), filter_pairs, drop_empty_rows), k))


def coverage_at_k(
    y_true: Any,
    y_score: Any,
    k: int = 5,
    *,
    filter_pairs: Any = None,
    drop_empty_rows: bool = False,
) -> float:
    """Return the share of occurring labels that the k best predictions hit in at least one row.

    Parameters
    ----------
    y_true, y_score, k, filter_pairs, drop_empty_rows
        As in :func:`precision_at_k`.

    Returns
    -------
    float
        In [0, 1].
    """
    return mean(coverage(rank(y_true, y_score, check_k(k), filter_pairs, drop_empty_rows), k))


def macro_f1_at_k(
    y_true: Any,
    y_score: Any,
    k: int = 5,
    *,
    filter_pairs: Any = None,
    drop_empty_rows: bool = False,
) -> float:
    """Return the F1 score of predicting the k best labels, averaged over all L labels.

    A label that neither occurs nor is predicted counts as 0, as in scikit-learn and napkinXC.

    Parameters
    ----------
    y_true, y_score, k, filter_pairs, drop_empty_rows
        As in :func:`precision_at_k`.

    Returns
    -------
    float
        In [0, 1].
    """
    return mean(macro_f1(rank(y_true, y_score, check_k(k), filter_pairs, drop_empty_rows), k))


def precision(ranking: Ranking, k: int) -> Floats:
    """Return precision@k of every row."""
    return ranking.hits[:, :k].sum(axis=1) / k


def recall(ranking: Ranking, k: int) -> Floats:
    """Return recall@k of every row."""
    return ranking.hits[:, :k].sum(axis=1) / np.maximum(ranking.positives, 1)


def ndcg(ranking: Ranking, k: int) -> Floats:
    """Return nDCG@k of every row."""
    hits = ranking.hits[:, :k]
    return hits @ discounts(hits.shape[1]) / ideal_gain(ranking, k)


def coverage(ranking: Ranking, k: int) -> NDArray[np.bool_]:
    """Return for every label that occurs whether it is hit."""
    return np.isin(np.unique(ranking.truth.indices), ranking.labels[:, :k][ranking.hits[:, :k]])


def macro_f1(ranking: Ranking, k: int) -> Floats:
    """Return the F1 score of every label."""
    n_labels = ranking.truth.shape[1]
    labels, hits = ranking.labels[:, :k], ranking.hits[:, :k]
    right = np.bincount(labels[hits], minlength=n_labels)
    predicted = np.bincount(labels[labels >= 0], minlength=n_labels)
    actual = np.bincount(ranking.truth.indices, minlength=n_labels)
    return 2 * right / np.maximum(predicted + actual, 1)


def discounts(k: int) -> Floats:
    """Return D_1, ..., D_k."""
    return 1 / np.log2(np.arange(k) + 2)


def ideal_gain(ranking: Ranking, k: int) -> Floats:
    """Return for every row the sum of D_j over j <= min(k, t_i); D_1 for a row without labels."""
    n_terms = np.clip(ranking.positives, 1, k)
    return np.cumsum(discounts(n_terms.max(initial=1)))[n_terms - 1]


def mean(values: Any) -> float:
    """Return the mean, or 0 of nothing."""
    return float(np.mean(values)) if np.size(values) else 0.0
