"""Metrics that weigh rare labels up: propensity-scored precision and nDCG.

Following Jain, Prabhu and Varma, "Extreme Multi-label Loss Functions for Recommendation, Tagging,
Ranking and Other Missing Label Applications" (KDD 2016), label l is seen with propensity 1 / w_l:

    w_l = 1 + C (N_l + b)^-a        with C = (ln N - 1) (b + 1)^a

N is the number of training rows and N_l the number of them with label l. With h_ij, t_i and D_j as
in the ranking metrics, w_ij the weight of the label at rank j of row i, and v_ij the j-th largest
weight among the labels of row i:

* PSP@k    = sum_i sum_{j <= k} w_ij h_ij / sum_i sum_{j <= k} v_ij
* PSnDCG@k = mean_i (sum_j w_ij h_ij D_j / I_i) / mean_i (sum_j v_ij D_j / I_i),
  with I_i = sum_{j <= min(k, t_i)} D_j
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skxc.metrics._inputs import Ranking, check_k, rank
from skxc.metrics._ranking import discounts, ideal_gain, mean
from skxc.utils._sparse import pick, ranked_positions
from skxc.utils._validation import check_total

# (a, b) of the benchmark sets: products, encyclopedia articles, and everything else.
PRESETS = {"default": (0.55, 1.5), "amazon": (0.6, 2.6), "wikipedia": (0.5, 0.4)}


def inverse_propensity(
    label_frequency: ArrayLike,
    n_samples: float,
    a: float = 0.55,
    b: float = 1.5,
    preset: str | None = None,
) -> NDArray[np.float64]:
    """Return the weight w_l of every label, 1 or more, larger for rarer labels.

    Parameters
    ----------
    label_frequency : array-like of shape (L,)
        Training rows of each label: the column sums of the training `y`, or `label_frequency_` of
        a fitted estimator.
    n_samples : int
        Number of training rows, at least 3.
    a, b : float, default=0.55 and 1.5
        Constants of the formula, not negative.
    preset : {"default", "amazon", "wikipedia"}, optional
        Named constants that replace `a` and `b`: (0.55, 1.5), (0.6, 2.6) and (0.5, 0.4).

    Returns
    -------
    ndarray of float64, shape (L,)
        Inverse propensities.

    Raises
    ------
    ValueError
        Fewer than three training rows, frequencies that are negative, not finite or not 1-D,
        negative constants, an unknown preset.

    Examples
    --------
    >>> from skxc.metrics import inverse_propensity
    >>> inverse_propensity([0, 1, 100], n_samples=1000).round(2)
    array([8.82, 6.91, 1.77])
    """
    if preset is not None:
        if preset not in PRESETS:
            raise ValueError(
                f"`preset` must be one of {', '.join(PRESETS)}. Got {preset!r}; "
                "pass the constants as `a` and `b` instead."
            )
        a, b = PRESETS[preset]
    for name, value in (("n_samples", n_samples), ("a", a), ("b", b)):
        if not isinstance(value, Real) or not abs(value) < 2**1000:
            raise ValueError(f"`{name}` must be a finite number. Got {value!r:.50}; pass a number.")
    if a < 0 or b < 0:
        raise ValueError(
            f"`a` and `b` must not be negative. Got {a} and {b}; try preset='default'."
        )
    if np.log(max(n_samples, 1)) - 1 <= 0:
        raise ValueError(
            f"`n_samples` must be at least 3, as ln(n) - 1 is not positive below. Got {n_samples}; "
            "pass the number of training rows, or leave propensity-scored metrics out."
        )
    frequency = floats(label_frequency)
    if frequency.ndim != 1 or not np.isfinite(frequency).all() or (frequency < 0).any():
        raise ValueError(
            "`label_frequency` must be one finite count per label. "
            f"Got shape {frequency.shape}; use y_train.sum(axis=0) of a 0/1 matrix."
        )
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        c = (np.log(n_samples) - 1) * np.float64(b + 1) ** a
        weights = 1 + c * (frequency + b) ** -a
    if not np.isfinite(weights).all():
        raise ValueError(
            f"`a` and `b` must give finite weights. Got {a} and {b}, with which weights overflow; "
            "try preset='default'."
        )
    return weights


def psp_at_k(
    y_true: Any,
    y_score: Any,
    inverse_propensity: ArrayLike,
    k: int = 5,
    *,
    filter_pairs: Any = None,
    drop_empty_rows: bool = False,
) -> float:
    """Return propensity-scored precision: the weight of the hits relative to the best achievable.

    Parameters
    ----------
    y_true, y_score, k, filter_pairs, drop_empty_rows
        As in :func:`precision_at_k`. Rows without labels change nothing here.
    inverse_propensity : array-like of shape (L,)
        Positive weights of the labels, from :func:`inverse_propensity` of the training data.

    Returns
    -------
    float
        In [0, 1]: both sums run over all rows before the division.
    """
    ranking = rank(y_true, y_score, check_k(k), filter_pairs, drop_empty_rows)
    return psp(ranking, check_weights(inverse_propensity, ranking), k)


def psndcg_at_k(
    y_true: Any,
    y_score: Any,
    inverse_propensity: ArrayLike,
    k: int = 5,
    *,
    ratio_of: str = "row_means",
    filter_pairs: Any = None,
    drop_empty_rows: bool = False,
) -> float:
    """Return propensity-scored nDCG, in one of its two definitions.

    Parameters
    ----------
    y_true, y_score, k, filter_pairs, drop_empty_rows
        As in :func:`precision_at_k`. Rows without labels change nothing here.
    inverse_propensity : array-like of shape (L,)
        Positive weights of the labels, from :func:`inverse_propensity` of the training data.
    ratio_of : {"row_means", "sums"}, default="row_means"
        "row_means" divides the gains of every row by I_i, as pyxclib does; "sums" leaves the I_i
        out. The two can differ by several points: name the one you report.

    Returns
    -------
    float
        In [0, 1].
    """
    if ratio_of not in ("row_means", "sums"):
        raise ValueError(
            f"`ratio_of` must be 'row_means' or 'sums'. Got {ratio_of!r}; 'row_means' is usual."
        )
    ranking = rank(y_true, y_score, check_k(k), filter_pairs, drop_empty_rows)
    return psndcg(ranking, check_weights(inverse_propensity, ranking), k, ratio_of)


def psp(ranking: Ranking, weights: NDArray[np.float64], k: int) -> float:
    """Return PSP@k of a ranking."""
    gains, best = gains_and_best(ranking, weights, k)
    return _ratio(gains.sum(), best.sum())


def psndcg(
    ranking: Ranking, weights: NDArray[np.float64], k: int, ratio_of: str = "row_means"
) -> float:
    """Return PSnDCG@k of a ranking."""
    gains, best = gains_and_best(ranking, weights, k)
    per_row = ideal_gain(ranking, k) if ratio_of == "row_means" else 1.0
    reached, possible = gains @ discounts(gains.shape[1]), best @ discounts(best.shape[1])
    return _ratio(mean(reached / per_row), mean(possible / per_row))


def floats(values: Any) -> NDArray[np.float64]:
    """Return numbers as float64, and NaN for what holds none or rows of different lengths."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError):
        return np.asarray(np.nan)


def check_weights(weights: ArrayLike, ranking: Ranking) -> NDArray[np.float64]:
    """Return the weights as float64; ValueError unless there is a positive one for every label."""
    weights = floats(weights)
    n_labels = ranking.truth.shape[1]
    if weights.shape != (n_labels,) or not ((weights > 0) & np.isfinite(weights)).all():
        raise ValueError(
            f"`inverse_propensity` must hold {n_labels} positive finite weights, one per label. "
            f"Got shape {weights.shape}; compute them with `inverse_propensity` from training data."
        )
    check_total("inverse_propensity", weights)
    return weights


def gains_and_best(
    ranking: Ranking, weights: NDArray[np.float64], k: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return w_ij h_ij and v_ij, both with a row per sample and k columns, or L of fewer labels."""
    k = min(k, max(ranking.truth.shape[1], 1))
    gains = np.where(ranking.hits[:, :k], weights[ranking.labels[:, :k]], 0.0)
    weighted = ranking.truth.copy()
    weighted.data = weights[weighted.indices]
    at = ranked_positions(weighted, k)
    return gains, np.where(at >= 0, pick(weighted.data, at), 0.0)


def _ratio(achieved: float, best: float) -> float:
    return float(achieved / best) if best > 0 else 0.0
