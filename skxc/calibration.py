"""Probabilities for the scores of retrieved labels.

A calibrator sees the stored scores of held-out rows and whether each of them was right, and learns
one increasing function p(score) for all labels together: in a long tail no label alone has enough
data. It may learn one for the best label of a row, one for the next two and one for the others: of
two labels with one score, the one that is the best of its row is right more often.

* Platt: p = 1 / (1 + exp(-(a z + b))), with z the standardised score and smoothed targets (Platt,
  1999).
* Isotonic: the best non-decreasing function (Zadrozny and Elkan, 2002), found to work for extreme
  classifiers in "Labels in Extremes: How Well Calibrated are Extreme Multi-label Classifiers?"
  (Ullah et al., 2025). A small share of Platt's curve makes its steps increase inside (0, 1).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.utils.validation import check_is_fitted

from skxc._params import Parameterized, params
from skxc.utils._loaded import check_finite, check_number, sizes_of
from skxc.utils._sparse import pair_ids, row_ids
from skxc.utils._validation import checked_sparse

__all__ = ["TopKCalibrator"]

Floats = NDArray[np.float64]

# "auto" takes the step function when hits and misses both have this much weight.
_ENOUGH_FOR_ISOTONIC = 100
_PLATT_SHARE = 0.05
# The largest slope and the smallest unit of z bound how strongly a rounding error shows in Platt's
# curve: dp <= 0.25 * 20 * (1e-7 |s|) / (5e-3 max |s|) = 1e-4 for a relative change of 1e-7 in s.
_SLOPE_BOUNDS = (1e-2, 20.0)
_SMALLEST_SPREAD = 5e-3
# A logarithmic term of this weight separates scores where the curves above are flat or saturated.
_TIE_SHARE = 1e-5
# First ranks of the functions with `by_rank`, and the weight of hits and of misses that one needs.
_FIRST_RANKS = (0, 1, 3)
_ENOUGH_FOR_RANK = 10
_FARTHEST = 1e40  # beyond what a float32 score can reach in units of z


@params
class TopKCalibrator(Parameterized):
    """Map the scores of retrieved labels to probabilities, keeping their order within a row.

    Only stored entries take part, in `fit` as in `transform`: an absent entry means "not retrieved"
    and says nothing. Fit it on rows that the model was not trained on.

    Parameters
    ----------
    method : {"auto", "isotonic", "platt"}, default="auto"
        "isotonic" is the more flexible, "platt" the smoother one. "auto" is isotonic if at least
        100 stored entries are hits and 100 are misses (in sample weight), else Platt.
    by_rank : bool, default=False
        Whether the best label of a row, the next two and the others have functions of their own,
        where there are enough entries for them. `transform_array` knows no ranks and uses the one
        for all.

    Attributes
    ----------
    method_ : {"isotonic", "platt"}
        What was fitted. Without any stored entry it is "platt".
    center_, scale_ : float
        z = (score - center_) / scale_ is the standardised score; scale_ is the standard deviation
        of the scores, but at least 0.005 of the largest magnitude.
    slope_, intercept_ : float
        a and b of Platt's curve. The slope is kept in [0.01, 20], so that probabilities increase
        with the score whatever the data say.
    thresholds_, levels_ : ndarray of float64, shape (m,)
        Scores and values of the step function, linear in between; empty for "platt".
    curves_ : list of TopKCalibrator or None
        With `by_rank`: what holds for ranks 1, 2 to 3, and beyond; None where the function for all
        labels does.

    Notes
    -----
    Probabilities are float64, strictly inside (0, 1), and two scores that float32 tells apart at
    the size of `scale_` have different probabilities. Rounding them to float32 would make some
    equal.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> from skxc.calibration import TopKCalibrator
    >>> scores = sp.csr_array(np.array([[2.0, 0.5, 0.0], [0.0, 1.5, 0.7]]))
    >>> truth = sp.csr_array(np.array([[1, 0, 0], [0, 1, 0]]))
    >>> proba = TopKCalibrator().fit(scores, truth).transform(scores)
    >>> proba.toarray().round(2)
    array([[0.81, 0.24, 0.  ],
           [0.  , 0.64, 0.31]])
    """

    method: Literal["auto", "isotonic", "platt"] = "auto"
    by_rank: bool = False

    def fit(
        self, scores: sp.csr_array, truth: sp.csr_array, sample_weight: ArrayLike | None = None
    ) -> TopKCalibrator:
        """Learn the function from scores and what was right.

        Parameters
        ----------
        scores : csr_array of shape (n, L)
            Stored scores of the retrieved labels, finite.
        truth : csr_array of shape (n, L)
            Label l is right for row i if entry (i, l) is not zero.
        sample_weight : array-like of shape (n,), optional
            Weights of the rows; rows of weight 0 have no influence.

        Returns
        -------
        TopKCalibrator
            Itself.

        Raises
        ------
        ValueError
            When the shapes differ, a score is not finite or a weight is negative or not finite.
        """
        self._validate_params()
        score, hit, weight = _observations(scores, truth, sample_weight)
        self.center_, self.scale_ = _standardisation(score, weight)
        self.slope_, self.intercept_ = _fit_platt(self._standardise(score), hit, weight)
        self.thresholds_, self.levels_ = np.zeros(0), np.zeros(0)
        self.method_ = self._choose_method(hit, weight)
        if self.method_ == "isotonic":
            steps = IsotonicRegression(y_min=0, y_max=1).fit(score, hit, sample_weight=weight)
            self.thresholds_, self.levels_ = steps.X_thresholds_, steps.y_thresholds_
        self.curves_: list[TopKCalibrator | None] = []
        for inside in _by_rank(sp.csr_array(scores)) if self.by_rank else ():
            part = sp.csr_array(scores, copy=True)
            part.indptr = np.concatenate([[0], np.cumsum(inside)])[part.indptr]
            part.data, part.indices = part.data[inside], part.indices[inside]
            _, hit, weight = _observations(part, truth, sample_weight)
            enough = min(weight @ hit, weight @ (1 - hit)) >= _ENOUGH_FOR_RANK
            curve = TopKCalibrator(method=self.method)
            self.curves_.append(curve.fit(part, truth, sample_weight) if enough else None)
        return self

    def transform(self, scores: sp.csr_array) -> sp.csr_array:
        """Return the probabilities of stored scores, in a new matrix of the same structure.

        Parameters
        ----------
        scores : csr_array of shape (n, L)
            Stored scores, finite.

        Returns
        -------
        csr_array of float64, shape (n, L)
            The same stored positions, with values strictly inside (0, 1).
        """
        check_is_fitted(self)
        probabilities = sp.csr_array(scores, copy=True)
        score = probabilities.data.astype(np.float64)
        _check_finite(score)
        probability = self._curve(score)
        if any(self.curves_):
            for curve, inside in zip(self.curves_, _by_rank(probabilities), strict=True):
                if curve is not None:
                    probability[inside] = curve._curve(score[inside])
            probability = _descending(probability, probabilities)
        probabilities.data = self._without_ties(probability, score)
        return probabilities

    def transform_array(self, scores: ArrayLike) -> Floats:
        """Return the probability of every score of an array.

        Parameters
        ----------
        scores : array-like of any shape
            Finite scores.

        Returns
        -------
        ndarray of float64, same shape
            Values strictly inside (0, 1).
        """
        check_is_fitted(self)
        score = np.asarray(scores, dtype=np.float64)
        _check_finite(score)
        return self._without_ties(self._curve(score), score)

    def _check_loaded(self) -> None:
        if not hasattr(self, "method_"):
            return
        check_number("center_", self.center_)
        check_number("scale_", self.scale_, np.finfo(float).tiny)
        check_number("slope_", self.slope_, *_SLOPE_BOUNDS)
        check_number("intercept_", self.intercept_)
        sizes_of(self, thresholds_="m", levels_="m")
        check_finite(type(self), vars(self))
        rises = np.all(np.diff(self.thresholds_) >= 0)
        if not (rises and np.all((self.levels_ >= 0) & (self.levels_ <= 1))):
            raise ValueError("`levels_` must lie in [0, 1], and `thresholds_` must rise")
        if len(self.curves_) not in (0, len(_FIRST_RANKS)):
            raise ValueError(f"`curves_` must be {len(_FIRST_RANKS)} or none")
        for curve in self.curves_:
            if curve is not None and not isinstance(curve, TopKCalibrator):
                raise ValueError("`curves_` must hold calibrators or None")

    def _curve(self, score: Floats) -> Floats:
        probability = expit(self.slope_ * self._standardise(score) + self.intercept_)
        if self.thresholds_.size:
            steps = np.interp(score, self.thresholds_, self.levels_)
            probability = _PLATT_SHARE * probability + (1 - _PLATT_SHARE) * steps
        return probability

    def _without_ties(self, probability: Floats, score: Floats) -> Floats:
        # |arcsinh z| < 93, so the tie breaker stays inside (0, 1); its slope 1 / |z| matches the
        # spacing of floating-point numbers at any size.
        tie_breaker = 0.5 + np.arcsinh(self._standardise(score)) / 200
        return (1 - _TIE_SHARE) * probability + _TIE_SHARE * tie_breaker

    def _standardise(self, score: Floats) -> Floats:
        return np.clip((score - self.center_) / self.scale_, -_FARTHEST, _FARTHEST)

    def _choose_method(self, hit: Floats, weight: Floats) -> str:
        if hit.size == 0:
            return "platt"
        if self.method != "auto":
            return self.method
        rarer = min(weight @ hit, weight @ (1 - hit))
        return "isotonic" if rarer >= _ENOUGH_FOR_ISOTONIC else "platt"


def _ranks(scores: sp.csr_array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row and rank of every stored entry: how many of the row have a larger score."""
    rows, places = row_ids(scores), np.arange(scores.nnz)
    order = np.lexsort((-scores.data, rows))
    ordered = scores.data[order]
    is_first = np.ones(scores.nnz, dtype=bool)
    is_first[1:] = (ordered[1:] != ordered[:-1]) | (rows[1:] != rows[:-1])
    ranks = np.empty(scores.nnz, dtype=np.int64)
    ranks[order] = np.maximum.accumulate(np.where(is_first, places, 0)) - scores.indptr[rows]
    return rows, ranks


def _by_rank(scores: sp.csr_array) -> list[NDArray[np.bool_]]:
    """Return which stored entries belong to each group of ranks."""
    ranks = _ranks(scores)[1]
    ends = (*_FIRST_RANKS, np.inf)
    return [(ranks >= first) & (ranks < stop) for first, stop in pairwise(ends)]


def _descending(values: Floats, scores: sp.csr_array) -> Floats:
    """Return values, raised where a worse label of the row has a larger one."""
    rows, ranks = _ranks(scores)
    table = np.zeros((scores.shape[0], int(ranks.max(initial=0)) + 1))
    table[rows, ranks] = values
    return np.maximum.accumulate(table[:, ::-1], axis=1)[:, ::-1][rows, ranks]


def _observations(
    scores: sp.csr_array, truth: sp.csr_array, sample_weight: ArrayLike | None
) -> tuple[Floats, Floats, Floats]:
    """Return score, hit (0 or 1) and weight of every stored entry of positive weight."""
    scores = sp.csr_array(checked_sparse(sp.csr_array(scores), "scores"))
    truth = sp.csr_array(checked_sparse(sp.csr_array(truth), "truth"))
    if scores.shape != truth.shape:
        raise ValueError(
            f"`scores` and `truth` must have one shape. Got {scores.shape} and {truth.shape}; "
            "score the rows of `truth`, one column per label."
        )
    weight = np.ones(scores.shape[0]) if sample_weight is None else np.asarray(sample_weight, float)
    if weight.shape != (scores.shape[0],):
        raise ValueError(
            f"`sample_weight` must have one weight per row. Got shape {weight.shape} for "
            f"{scores.shape[0]} rows; pass the weights of the calibration rows."
        )
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise ValueError(
            "`sample_weight` must be finite and non-negative. "
            f"Got {weight.min()} to {weight.max()}; drop or correct these rows."
        )
    score = scores.data.astype(np.float64)
    _check_finite(score)
    right = pair_ids(truth)[truth.data != 0]
    hit = np.isin(pair_ids(scores), right).astype(np.float64)
    weight = weight[row_ids(scores)]
    return score[weight > 0], hit[weight > 0], weight[weight > 0]


def _check_finite(score: Floats) -> None:
    if not np.isfinite(score).all():
        raise ValueError(
            f"`scores` must be finite. Got {np.count_nonzero(~np.isfinite(score))} NaN or infinite "
            "values; check the training of the model, or leave padding out."
        )


def _standardisation(score: Floats, weight: Floats) -> tuple[float, float]:
    if score.size == 0:
        return 0.0, 1.0
    center = float(np.average(score, weights=weight))
    spread = float(np.sqrt(np.average((score - center) ** 2, weights=weight)))
    return center, max(spread, _SMALLEST_SPREAD * float(np.abs(score).max())) or 1.0


def _fit_platt(z: Floats, hit: Floats, weight: Floats) -> tuple[float, float]:
    """Return slope and intercept; the loss is convex, so the optimum lies on a violated bound."""
    positives, negatives = weight @ hit, weight @ (1 - hit)
    target = np.where(hit > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    ones = np.ones_like(z)
    slope, intercept = _fit_logistic(np.stack([z, ones], axis=1), 0 * z, target, weight)
    bounded = float(np.clip(slope, *_SLOPE_BOUNDS))
    if bounded != slope:
        (intercept,) = _fit_logistic(ones[:, None], bounded * z, target, weight)
    return bounded, float(intercept)


def _fit_logistic(design: Floats, offset: Floats, target: Floats, weight: Floats) -> Floats:
    """Minimise the weighted cross-entropy of expit(design @ theta + offset) by Newton's method.

    Halving a step that does not lower the loss makes it safe (Lin, Lin and Weng, 2007, "A note on
    Platt's probabilistic outputs"); quadratic convergence leaves no trace of the order of rows.
    """
    theta = np.zeros(design.shape[1])
    weight = weight / max(weight.sum(), np.finfo(float).tiny)

    def loss(theta: Floats) -> float:
        logit = design @ theta + offset
        return float(weight @ (np.logaddexp(0, logit) - target * logit))

    for _ in range(100):
        p = expit(design @ theta + offset)
        gradient = design.T @ (weight * (p - target))
        hessian = (design.T * (weight * p * (1 - p))) @ design
        step = np.linalg.solve(hessian + 1e-12 * np.eye(theta.size), gradient)
        while np.abs(step).max() > 1e-10 and loss(theta - step) > loss(theta):
            step = step / 2
        theta = theta - step
        if np.abs(step).max() <= 1e-10:
            break
    return theta
