"""Expected calibration error of the best predictions.

ECE@k pools the k best (row, label) predictions of all rows, sorts them by probability into bins of
equal width, and averages |share of right ones - mean probability| over the bins, weighted by their
sizes. Over all labels the many certain negatives would hide everything, hence the best k only:
"Labels in Extremes: How Well Calibrated are Extreme Multi-label Classifiers?" (Ullah et al., 2025).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from skxc.metrics._inputs import Ranking, check_k, rank


def ece_at_k(
    y_true: Any,
    y_proba: Any,
    k: int = 5,
    *,
    n_bins: int = 15,
    filter_pairs: Any = None,
    drop_empty_rows: bool = False,
) -> float:
    """Return the expected calibration error of the k most probable labels per row; lower is better.

    Parameters
    ----------
    y_true, k, filter_pairs, drop_empty_rows
        As in :func:`precision_at_k`. Rows without labels are evidence here too: keep them.
    y_proba : sparse matrix or ndarray of shape (n, L)
        Probabilities in [0, 1], such as `predict_proba` returns.
    n_bins : int, default=15
        Number of bins of equal width.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        Values outside [0, 1], label ids instead of probabilities, or an error of
        :func:`precision_at_k`.

    Examples
    --------
    >>> import numpy as np
    >>> from skxc.metrics import ece_at_k
    >>> y_true = np.array([[1, 0], [0, 1], [1, 0], [0, 0]])
    >>> y_proba = np.array([[0.75, 0.1], [0.75, 0.2], [0.75, 0.3], [0.75, 0.1]])
    >>> ece_at_k(y_true, y_proba, k=1)
    0.25
    """
    return ece(rank(y_true, y_proba, check_k(k), filter_pairs, drop_empty_rows), k, n_bins)


def ece(ranking: Ranking, k: int, n_bins: int = 15) -> float:
    """Return ECE@k of a ranking by probability."""
    predicted = ranking.labels[:, :k] >= 0
    proba = ranking.scores[:, :k][predicted].astype(np.float64)
    hits = ranking.hits[:, :k][predicted].astype(np.float64)
    if proba.size == 0:
        return 0.0
    if proba.min() < 0 or proba.max() > 1:
        raise ValueError(
            f"`y_proba` must lie in [0, 1]. Got {proba.min()} to {proba.max()}; pass the result of "
            "predict_proba, or calibrate scores with TopKCalibrator."
        )
    bins = np.minimum((proba * n_bins).astype(np.int64), n_bins - 1)
    gap = np.bincount(bins, weights=hits - proba, minlength=n_bins)
    return float(np.abs(gap).sum() / proba.size)
