"""Rows held out inside `fit`: they calibrate and steer, and small data get them back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc._model import Fit
from skxc._training_set import Features, TrainingSet
from skxc.utils._loaded import sizes_of
from skxc.utils._random import root_seed, stream

if TYPE_CHECKING:
    from skxc.calibration import TopKCalibrator

# Held-out rows are a share of small data, given back afterwards, and a part of large data.
SMALL_SAMPLE = 2000
FEWEST_ROWS = 10


@dataclass(frozen=True, eq=False)
class CalibrationRows:
    """Held-out rows that calibrate anew where a parameter was changed after `fit`.

    Attributes
    ----------
    X : csr_array or ndarray of str objects, n rows
    y : csr_array, shape (n, n_labels)
    sample_weight : ndarray of float64, shape (n,)
    own : csr_array of shape (n, n_labels), or None
        Pairs that are no answers.
    """

    X: Features
    y: sp.csr_array
    sample_weight: NDArray[np.float64]
    own: sp.csr_array | None

    def _check_loaded(self) -> None:
        n_rows, n_labels = self.y.shape
        sizes_of(self, y="n L", own=f"{n_rows} L", sample_weight="n")
        if self.X.shape[0] != n_rows or (self.own is not None and self.own.shape[1] > n_labels):
            raise ValueError(f"`CalibrationRows.X` must have {n_rows} rows, as `y` has")


def n_held_out(n_samples: int) -> int:
    """Return how many rows are held out."""
    if n_samples < FEWEST_ROWS:
        return 0
    if n_samples < SMALL_SAMPLE:
        return math.ceil(n_samples / 5)
    return min(1000, math.ceil(n_samples / 20))


def hold_out(data: TrainingSet) -> tuple[TrainingSet, TrainingSet | None]:
    """Return the rows to train on and the held-out ones, None where there are too few.

    Canonical rows are in random order, so the first ones are a fair draw; with groups, whole groups
    are drawn.
    """
    n_held = n_held_out(data.n_samples)
    is_held = np.arange(data.n_samples) < n_held
    if data.groups is not None and n_held:
        is_held = _some_groups(data.groups, n_held)
    rest = data.take(np.flatnonzero(~is_held))
    if not is_held.any() or rest.y.nnz == 0:
        return data, None
    return rest, data.take(np.flatnonzero(is_held))


def _some_groups(groups: NDArray[np.int64], n_rows: int) -> NDArray[np.bool_]:
    """Return which rows belong to groups, drawn alike whatever their sizes, of n_rows together.

    Groups of a tenth of these rows or less come first: few large ones would not stand for all.
    Where every group is larger than what is wanted, it is the smallest.
    """
    sizes = np.bincount(groups)
    if len(sizes) < 2:
        return np.zeros(len(groups), dtype=bool)
    drawn = stream(0, "groups").permutation(len(sizes))
    chosen, room = [], n_rows
    for group in drawn[np.argsort(10 * sizes[drawn] > n_rows, kind="stable")]:
        if sizes[group] <= room:
            chosen.append(group)
            room -= sizes[group]
    return np.isin(groups, chosen or [np.argmin(sizes)])


def train_and_calibrate(estimator: Any, data: TrainingSet) -> dict[str, Any]:
    """Train on all rows or on some, and calibrate on rows that the calibrated model did not see.

    Returns
    -------
    dict
        ``model_``; ``calibrator_``, and with "held_out" the rows that calibrated, unless the
        estimator's `calibration` is None.
    """

    def train(
        rows: TrainingSet, held_out: TrainingSet | None = None, *, is_trial: bool = False
    ) -> Any:
        seed = root_seed(getattr(estimator, "random_state", 0))
        return estimator._run_training(Fit(rows, held_out, is_trial, seed))

    mode = estimator.calibration
    rest, held_out = (data, None) if mode is None else hold_out(data)
    if mode is None:
        return {"model_": train(data)}
    if held_out is None:
        model = train(data)
        return {"model_": model, "calibrator_": calibrate(estimator, model, data, data.n_labels)}
    if mode == "auto":
        mode = "refit" if estimator._refits(data.n_samples) else "held_out"
    if mode == "refit":
        trial = train(rest, held_out, is_trial=True)
        calibrator = calibrate(estimator, trial, held_out, data.n_labels)
        del trial
        return {"model_": train(data), "calibrator_": calibrator}
    model = train(rest, held_out)
    rows = CalibrationRows(held_out.X, held_out.y, held_out.sample_weight, held_out.own)
    calibrator = calibrate(estimator, model, held_out, data.n_labels)
    return {"model_": model, "calibrator_": calibrator, "calibration_rows_": rows}


def calibrate(
    estimator: Any, model: Any, rows: TrainingSet | CalibrationRows, n_labels: int
) -> TopKCalibrator:
    """Return a calibrator fitted on the scores that a model gives to labelled rows."""
    from skxc.calibration import TopKCalibrator

    scores = estimator._retrieve(model, rows.X, rows.own, estimator.top_k, n_labels)
    # Labels that were added since then are right for none of these rows.
    y = sp.csr_array((rows.y.data, rows.y.indices, rows.y.indptr), shape=scores.shape)
    return TopKCalibrator(by_rank=True).fit(scores, y, rows.sample_weight)
