"""What all metrics start from: checked inputs, ranked once.

Rules: only stored scores are predictions; best first, ties to the lower label id; -1 pads a short
row; filtered pairs are dropped before ranking; rows without labels stay unless the caller says no.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.exceptions import UndefinedMetricWarning

from skxc.utils._sparse import index_dtype, pack_topk, pair_ids, pick, ranked_positions, top_k
from skxc.utils._validation import as_matrix, check_target

logger = logging.getLogger("skxc")


@dataclass(frozen=True)
class Ranking:
    """The best predictions of every row and which of them are right.

    Attributes
    ----------
    truth : csr_array of float32 ones, shape (n, L)
    labels : ndarray of int, shape (n, depth)
        Label ids, best first; -1 where a row runs out.
    hits : ndarray of bool, shape (n, depth)
        Whether the label is right; False for padding.
    scores : ndarray of float, shape (n, depth)
        Their scores; -inf for padding.
    """

    truth: sp.csr_array
    labels: NDArray[np.integer]
    hits: NDArray[np.bool_]
    scores: NDArray[np.floating]

    @property
    def positives(self) -> NDArray[np.integer]:
        """Return the number of labels of every row."""
        return np.diff(self.truth.indptr)

    def take(self, rows: NDArray[np.bool_]) -> Ranking:
        """Return the ranking of the selected rows."""
        return Ranking(self.truth[rows], self.labels[rows], self.hits[rows], self.scores[rows])


def rank(
    y_true: Any,
    y_score: Any,
    depth: int,
    filter_pairs: Any = None,
    drop_empty_rows: bool = False,
    n_unknown: int = 0,
) -> Ranking:
    """Check the inputs of a metric and rank the `depth` best predictions of every row.

    Parameters
    ----------
    y_true : sparse or dense indicator of shape (n, L)
    y_score : scores of shape (n, L), sparse or dense; label ids of shape (n, m), or their pair
    depth : int
        The largest k of the metrics to compute.
    filter_pairs : sparse matrix of shape (n, L), optional
        Predictions at its stored positions are dropped.
    drop_empty_rows : bool, default=False
        Leave out the rows of `y_true` without labels.
    n_unknown : int, default=0
        Last columns of `y_true` that scores and filter do not have: labels that nobody predicts.

    Returns
    -------
    Ranking
    """
    truth = _check_truth(y_true)
    shape = truth.shape[0], truth.shape[1] - n_unknown
    # Nothing is ranked beyond the last label.
    depth = min(depth, max(truth.shape[1], 1))
    pairs = None if filter_pairs is None else _check_filter(filter_pairs, truth, shape)
    scores = _widened(_check_predictions(y_score, shape, depth, pairs), truth.shape)
    if pairs is not None:
        keep = ~stored_in(scores, pairs)
        indptr = np.concatenate([[0], np.cumsum(keep)])[scores.indptr]
        parts = (scores.data[keep], scores.indices[keep], indptr)
        scores = sp.csr_array(parts, shape=scores.shape)
    at = ranked_positions(scores, depth)
    padding = at < 0
    ranking = Ranking(
        truth,
        np.where(padding, -1, pick(scores.indices, at)),
        np.where(padding, False, pick(stored_in(scores, truth), at)),
        np.where(padding, -np.inf, pick(scores.data, at)),
    )
    return _about_empty_rows(ranking, drop_empty_rows)


def check_k(k: Any) -> int:
    """Return k as int; ValueError unless it is an integer of at least 1."""
    if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
        raise ValueError(f"`k` must be an integer of at least 1. Got {k!r}; pass k=5, for example.")
    return int(k)


def stored_in(matrix: sp.csr_array, pairs: sp.csr_array) -> NDArray[np.bool_]:
    """Return for every stored entry of `matrix` whether `pairs` stores it; both canonical."""
    here, there = pair_ids(matrix), pair_ids(pairs)
    mask = np.zeros(here.size, dtype=bool)
    # Looking up the few pairs among the many predictions is the cheap direction.
    at = np.searchsorted(here, there)
    there, at = there[at < here.size], at[at < here.size]
    mask[at[here[at] == there]] = True
    return mask


def _check_truth(y_true: Any) -> sp.csr_array:
    target = check_target(y_true)
    if target.layout == "classes":
        raise ValueError(
            "`y_true` must be an indicator of shape (n_samples, n_labels). Got one value per "
            "sample; for single-label targets use the metrics of scikit-learn."
        )
    return target.matrix


def _widened(matrix: sp.csr_array, shape: tuple[int, int]) -> sp.csr_array:
    """Return the matrix with empty columns at its end."""
    return sp.csr_array((matrix.data, matrix.indices, matrix.indptr), shape=shape)


def _check_filter(filter_pairs: Any, truth: sp.csr_array, shape: tuple[int, int]) -> sp.csr_array:
    pairs = _canonical(sp.csr_array(as_matrix(filter_pairs, "filter_pairs")))
    _check_shape("filter_pairs", pairs.shape, shape)
    pairs = _widened(pairs, truth.shape)
    overlap = np.count_nonzero(stored_in(truth, pairs))
    if overlap:
        warnings.warn(
            f"`filter_pairs` holds {overlap} of the {truth.nnz} pairs of `y_true`: no prediction "
            "can hit them, which lowers every metric. Remove them from one of the two.",
            UserWarning,
            stacklevel=4,
        )
    return pairs


def _check_predictions(
    y_score: Any, shape: tuple[int, int], depth: int, pairs: sp.csr_array | None
) -> sp.csr_array:
    """Return the predictions as canonical CSR scores."""
    if sp.issparse(y_score):
        _check_shape("y_score", y_score.shape, shape)
        scores = _canonical(sp.csr_array(as_matrix(y_score, "y_score")))
        scores = scores if scores.dtype.kind == "f" else scores.astype(np.float64)
        _check_finite(scores.data)
        return scores
    if isinstance(y_score, tuple) and len(y_score) == 2 and np.ndim(y_score[0]) == 2:
        return _pack_ids(np.asarray(y_score[0]), shape)
    array = np.asarray(y_score)
    if array.dtype.kind == "O":
        array = np.array(array.tolist())
    if array.dtype.kind not in "buif":
        raise ValueError(
            f"`y_score` must hold numbers. Got an array of type {array.dtype}; pass scores, or "
            "label ids best first."
        )
    # The shape says what numbers mean, never their type, which a data frame or a file changes.
    if array.shape != shape and array.ndim == 2 and np.all(array == np.rint(array)):
        return _pack_ids(array, shape)
    if array.dtype.kind in "iu" and _are_ids(array, shape):
        raise ValueError(
            f"`y_score` of integers in the shape of `y_true`, {shape}, may be scores or label ids. "
            "Pass scores as floats, or the pair (indices, scores) that `predict_topk` returns."
        )
    _check_shape("y_score", array.shape, shape)
    array = array.astype(np.float64, copy=False)
    _check_finite(array)
    spare = 0 if pairs is None else int(np.diff(pairs.indptr).max(initial=0))
    labels, _ = top_k(array, depth + spare)
    # Scores as given, not as float32.
    return pack_topk(labels, np.take_along_axis(array, labels, axis=1), n_labels=shape[1])


def _are_ids(array: NDArray[np.integer], shape: tuple[int, int]) -> bool:
    """Return whether numbers of the shape of scores may be label ids: in range, once per row."""
    if array.shape != shape or not array.size or array.min() < -1 or array.max() >= shape[1]:
        return False
    ordered = np.sort(array, axis=1)
    return not np.any((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0))


def _pack_ids(ids: NDArray[np.number], shape: tuple[int, int]) -> sp.csr_array:
    """Return label ids as scores -1, -2, ... in the order of the columns."""
    n, n_labels = shape
    if ids.shape[0] != n:
        raise ValueError(
            "`y_score` must have one row of label ids per row of `y_true`. "
            f"Got {ids.shape[0]} rows for {n}; predict for the rows of `y_true`."
        )
    if ids.size and (ids.min() < -1 or ids.max() >= n_labels):
        raise ValueError(
            f"`y_score` of shape {ids.shape} must hold label ids from 0 to {n_labels - 1}, -1 for "
            f"padding. Got {ids.min()} to {ids.max()}; scores have the shape {shape}."
        )
    falling = np.broadcast_to(-1.0 - np.arange(ids.shape[1]), ids.shape)
    packed = pack_topk(ids.astype(index_dtype(n_labels)), falling, n_labels)
    repeated = packed.nnz - _canonical(packed).nnz
    if repeated:
        raise ValueError(
            f"`y_score` of shape {ids.shape} must name a label once per row. Got {repeated} "
            f"repetitions; 0/1 predictions and scores have the shape {shape}."
        )
    return packed


def _canonical(matrix: sp.csr_array) -> sp.csr_array:
    """Return the matrix with sorted columns, each once; stored zeros stay."""
    if matrix.has_canonical_format:
        return matrix
    matrix = matrix.copy()
    matrix.sum_duplicates()
    return matrix


def _check_shape(name: str, shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    if tuple(shape) != tuple(expected):
        raise ValueError(
            f"`{name}` must have the shape of `y_true`, {tuple(expected)}. Got {tuple(shape)}; use "
            "the same rows and one column per label, or integer label ids padded with -1."
        )


def _check_finite(scores: NDArray[np.floating]) -> None:
    bad = scores.size - np.count_nonzero(np.isfinite(scores))
    if bad:
        raise ValueError(
            f"`y_score` must be finite. Got {bad} NaN or infinite scores, which have no rank; "
            "check the training of the model, or leave labels without a score out."
        )


def _about_empty_rows(ranking: Ranking, drop: bool) -> Ranking:
    """Say that rows have no label, and leave them out if wanted."""
    full = ranking.positives > 0
    if not full.any():
        warnings.warn(
            "No row of `y_true` has a label, so metrics of hits are 0. Check rows and split.",
            UndefinedMetricWarning,
            stacklevel=4,
        )
        return ranking
    if not full.all():
        what = "were dropped" if drop else "count as misses"
        logger.info("%d of %d rows have no label and %s", np.sum(~full), full.size, what)
    return ranking.take(full) if drop else ranking
