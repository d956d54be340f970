"""Rows held out inside `fit`: they calibrate and steer, and small data get them back."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc._model import SMALL_SAMPLE, Fit, Trial
from skxc._training_set import Features, TrainingSet, check_new_samples
from skxc.utils._loaded import sizes_of
from skxc.utils._random import root_seed, stream

if TYPE_CHECKING:
    from skxc.calibration import TopKCalibrator

# Up to this number of rows, long trainings are done again on all rows by default.
MODERATE_SAMPLE = 50_000
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


def n_held_out(n_samples: int, *, given_back: bool = False) -> int:
    """Return how many rows are held out; those that are given back may be more."""
    if n_samples < FEWEST_ROWS:
        return 0
    if n_samples < SMALL_SAMPLE:
        return math.ceil(n_samples / 5)
    share = min(1000, math.ceil(n_samples / 20))
    return max(share, SMALL_SAMPLE // 5) if given_back else share


def hold_out(
    data: TrainingSet, *, given_back: bool = False
) -> tuple[TrainingSet, TrainingSet | None]:
    """Return the rows to train on and the held-out ones, None where there are too few.

    Canonical rows are in random order, so the first ones are a fair draw; with groups, whole groups
    are drawn.
    """
    n_held = n_held_out(data.n_samples, given_back=given_back)
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
    mode, trial = estimator.calibration, Trial()
    if mode == "auto":
        mode = "refit" if estimator._refits(data.n_samples) else "held_out"
    rest, held_out = data, None
    if mode is not None:
        rest, held_out = hold_out(data, given_back=mode == "refit")
    if held_out is not None:
        fitted = train_and_judge(estimator, rest, held_out, trial, is_trial=mode == "refit")
    if held_out is None or mode == "refit":
        fitted = {}  # a model takes memory, and another one is trained now
        fitted = train_on_all(estimator, data, trial)
    if held_out is None and mode is not None:
        fitted["calibrator_"] = calibrate(estimator, fitted["model_"], data, data.n_labels)
    trial.finish()
    return fitted


def train_and_judge(
    estimator: Any, rest: TrainingSet, held_out: TrainingSet, trial: Trial, *, is_trial: bool
) -> dict[str, Any]:
    """Train without the held-out rows, and choose and calibrate on them; fill `trial`."""
    model = estimator._run_training(Fit(rest, held_out, is_trial, _seed(estimator), trial))
    trial.chosen = {path: attrgetter(path)(model) for path in model._chosen}
    trial.calibrator = calibrate(estimator, model, held_out, rest.n_labels)
    fitted = {"model_": model, "calibrator_": trial.calibrator}
    if not is_trial:
        kept = (held_out.X, held_out.y, held_out.sample_weight, held_out.own)
        fitted["calibration_rows_"] = CalibrationRows(*kept)
    return fitted


def train_on_all(estimator: Any, data: TrainingSet, trial: Trial) -> dict[str, Any]:
    """Train on all rows, with what a first training left, if there was one."""
    fit = Fit(data, None, False, _seed(estimator), trial)
    fitted = {"model_": fit.with_choices(estimator._run_training(fit))}
    if trial.calibrator is not None:
        fitted["calibrator_"] = trial.calibrator
    return fitted


def _seed(estimator: Any) -> int:
    return root_seed(getattr(estimator, "random_state", 0))


@dataclass(frozen=True, eq=False)
class JointFit:
    """One training of a member of a fusion, which holds rows out for all its members.

    Attributes
    ----------
    held_out : TrainingSet or None
        The rows, as the fusion has them; None in the training on all rows.
    is_trial : bool
        Whether a training on all rows follows.
    trial : Trial
        Filled by the first training, followed by the second.
    """

    held_out: TrainingSet | None
    is_trial: bool
    trial: Trial

    def train(self, estimator: Any, data: TrainingSet) -> dict[str, Any]:
        """Return what `train_and_calibrate` does, on these rows."""
        held_out = self.held_out
        if held_out is None:
            return train_on_all(estimator, data, self.trial)
        # What knows the form of samples is an estimator, and this one is not fitted yet.
        fitted = copy.copy(estimator)
        vars(fitted).update(data.attributes)
        X, own = check_new_samples(fitted, held_out.X)
        weight = held_out.sample_weight
        n_samples = data.attributes["n_samples_fit_"] + weight.sum()
        rows = replace(
            data,
            X=X,
            y=held_out.y,
            sample_weight=weight,
            sample_graph=None,
            groups=held_out.groups,
            own=own,
            attributes={**data.attributes, "n_samples_fit_": n_samples},
        )
        return train_and_judge(estimator, data, rows, self.trial, is_trial=self.is_trial)


def calibrate(
    estimator: Any, model: Any, rows: TrainingSet | CalibrationRows, n_labels: int
) -> TopKCalibrator:
    """Return a calibrator fitted on the scores that a model gives to labelled rows."""
    from skxc.calibration import TopKCalibrator

    scores = estimator._retrieve(model, rows.X, rows.own, estimator.top_k, n_labels)
    # Labels that were added since then are right for none of these rows.
    y = sp.csr_array((rows.y.data, rows.y.indices, rows.y.indptr), shape=scores.shape)
    return TopKCalibrator(by_rank=True).fit(scores, y, rows.sample_weight)
