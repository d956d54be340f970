"""Learn on held-out rows how to combine models.

1. Cross-fit: the probabilities of a row's pairs, and the trees' log-odds, come from calibrators and
   trees fitted on the other folds of rows. All choices below are made on these.
2. Search: from equal shares and a slight tilt towards rare labels, one number after the other is
   set to the value with the best objective; every single model is a candidate as well.
3. Shrink: back towards the start as far as the objective stays within two standard errors of the
   best, in the spirit of the one-standard-error rule of Breiman et al., "Classification and
   Regression Trees", 1984; two, since the best of many candidates is partly luck. Few rows thus
   choose little, and ties go to the simpler rule. But no further than the best single model: what
   is behind it on these rows has to expect to be behind it on others.
4. Calibrators and trees are fitted again on all held-out rows.

The cross-fitted scores also serve to calibrate the fusion itself: nothing that was fitted to a row
takes part in them, but for the few numbers of step 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.calibration import TopKCalibrator
from skxc.fusion._boosted import BoostedTrees
from skxc.fusion._candidates import Candidates
from skxc.fusion._combiner import Combiner, Evidence, combine, weigh_evidence
from skxc.fusion._objective import Objective, Ranked
from skxc.utils._sparse import pair_ids

Floats = NDArray[np.float64]

N_FOLDS = 5
# Standard errors that count as noise.
N_ERRORS = 2
# Where the search starts, and stays without evidence. On two data sets, rows of sources that
# training did not see gave the same precision@1 and precision@5 with this tilt as without, and 0.7
# to 1.7 points more of PSP@1 and PSP@5; held-out rows resemble training rows too much to show it.
START_TILT = 0.25
START_TREE_SHARE = 0.5
# Right candidates without training rows from which on the trees judge such labels.
ENOUGH_UNSEEN = 20
STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)
MAX_ROUNDS = 4


@dataclass(frozen=True)
class Choice:
    """The numbers that are searched; see :class:`Combiner`."""

    shares: Floats
    tilt: float
    tree_share: float

    def towards(self, other: Choice, step: float) -> Choice:
        """Return the choice a part of the way to another one."""
        return Choice(
            self.shares + step * (other.shares - self.shares),
            self.tilt + step * (other.tilt - self.tilt),
            self.tree_share + step * (other.tree_share - self.tree_share),
        )


@dataclass(frozen=True, eq=False)
class Learned:
    """What :func:`learn_combiner` returns.

    Attributes
    ----------
    combiner : Combiner
    scores : ndarray of float64, shape (e,)
        Cross-fitted scores of the candidates.
    objective : float
        The cross-fitted objective of the combination.
    member_objectives : ndarray of float64, shape (M,)
        The same of each model alone.
    """

    combiner: Combiner
    scores: Floats
    objective: float
    member_objectives: Floats


def learn_combiner(
    candidates: Candidates,
    truth: sp.csr_array,
    *,
    objective: Objective,
    label_frequency: NDArray,
    inverse_propensity: Floats,
    floors: Floats,
    trees: bool = False,
    shares: Floats | None = None,
    row_weight: Floats | None = None,
    search: bool = True,
) -> Learned:
    """Return the combination of the models of the best objective, with guards against chance.

    Parameters
    ----------
    candidates : Candidates
        Of rows that no model was trained on.
    truth : csr_array of shape (n, n_labels)
        Their labels.
    objective : Objective
    label_frequency, inverse_propensity : ndarray of shape (n_labels,)
        Of the training rows.
    floors : ndarray of float64, shape (M,)
    trees : bool, default=False
        Whether boosted trees take part.
    shares : ndarray of float64, shape (M,), optional
        Given shares; nothing is searched then.
    row_weight : ndarray of float64, shape (n,), optional
    search : bool, default=True
        False keeps equal shares and grows no trees: for rows too few or not held out.

    Returns
    -------
    Learned
    """
    pairs = _Pairs(candidates, truth, row_weight, label_frequency)
    trees = trees and search
    calibrators, forest = pairs.fit(trees)
    evidence = pairs.weigh(candidates, calibrators, forest)
    if search:
        pairs.cross_fit(evidence)
    log_weight = np.log(inverse_propensity)[candidates.labels]

    def score(choice: Choice) -> Floats:
        return combine(evidence, log_weight, choice.shares, choice.tilt, choice.tree_share)

    def values(choice: Choice) -> Floats:
        ranked = pairs.ranked(score(choice), objective.depth, inverse_propensity)
        return objective.values(ranked)

    n_models = candidates.scores.shape[1]
    given = np.full(n_models, 1 / n_models) if shares is None else shares / shares.sum()
    best = Choice(given, 0.0, START_TREE_SHARE if trees else 0.0)
    if search and shares is None:
        best = choose(values, replace(best, tilt=START_TILT), trees, pairs.row_weight)
    alone = [pairs.mean(values(single)) for single in singles(n_models)]
    return Learned(
        Combiner(
            calibrators,
            floors,
            best.shares,
            best.tilt,
            forest,
            best.tree_share,
            pairs.judges_unseen,
        ),
        score(best),
        pairs.mean(values(best)),
        np.array(alone),
    )


def singles(n_models: int) -> list[Choice]:
    """Return each model alone."""
    return [Choice(shares, 0.0, 0.0) for shares in np.eye(n_models)]


def choose(
    values: Callable[[Choice], Floats], start: Choice, trees: bool, row_weight: Floats
) -> Choice:
    """Search for the best choice, and shrink it towards the start.

    Parameters
    ----------
    values : callable
        Gives the objective of a choice row by row.
    start : Choice
        The simplest one.
    trees : bool
        Whether the share of the trees is searched.
    row_weight : ndarray of float64, shape (n,)

    Returns
    -------
    Choice
    """
    best, best_values = start, values(start)

    def is_better(candidate: Floats) -> bool:
        return bool(np.average(candidate - best_values, weights=row_weight) > 1e-9)

    for _ in range(MAX_ROUNDS):
        before = best
        for moves in _moves(trees):
            for other in moves(best):
                candidate = values(other)
                if is_better(candidate):
                    best, best_values = other, candidate
        if best is before:
            break
    alone = [(single, values(single)) for single in singles(len(start.shares))]
    for single, candidate in alone:
        if is_better(candidate):
            best, best_values = single, candidate
    # How far below the best choice the best single model is.
    gain = min(np.average(best_values - candidate, weights=row_weight) for _, candidate in alone)
    for step in STEPS:
        closer = start.towards(best, step)
        loss = best_values - values(closer)
        most = min(N_ERRORS * standard_error(loss, row_weight), gain)
        if np.average(loss, weights=row_weight) <= most + 1e-9:
            return closer
    return best


def _moves(trees: bool) -> list[Callable[[Choice], Iterator[Choice]]]:
    """Return what a round of the search tries, one number after the other."""

    def shares(choice: Choice) -> Iterator[Choice]:
        for single in np.eye(len(choice.shares)):
            for step in STEPS[1:]:
                yield replace(choice, shares=choice.shares + step * (single - choice.shares))

    def tilt(choice: Choice) -> Iterator[Choice]:
        return (replace(choice, tilt=value) for value in STEPS)

    def tree_share(choice: Choice) -> Iterator[Choice]:
        return (replace(choice, tree_share=value) for value in STEPS)

    return [shares, tilt, tree_share] if trees else [shares, tilt]


def standard_error(values: Floats, weights: Floats) -> float:
    """Return the standard error of a weighted mean, infinite for a single row."""
    share = weights / weights.sum()
    effective = 1 / (share**2).sum()
    if effective <= 1:
        return np.inf
    variance = share @ (values - share @ values) ** 2
    return float(np.sqrt(variance / (effective - 1)))


class _Pairs:
    """Candidate pairs of held-out rows with what is known of them."""

    def __init__(
        self,
        candidates: Candidates,
        truth: sp.csr_array,
        row_weight: Floats | None,
        label_frequency: NDArray,
    ) -> None:
        self.candidates = candidates
        self.truth = truth
        self.row_weight = np.ones(candidates.n_rows) if row_weight is None else row_weight
        self.label_frequency = label_frequency
        rows, labels = candidates.rows, candidates.labels
        self.hits = np.isin(rows * truth.shape[1] + labels, pair_ids(truth))
        unseen = candidates.unseen(label_frequency)
        self.judges_unseen = bool(self.hits[unseen].sum() >= ENOUGH_UNSEEN)
        # Where the pairs of every row are: (n, longest list), padded with -1.
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        self.at = np.full((candidates.n_rows, place.max(initial=0) + 1), -1)
        self.at[rows, place] = np.arange(len(rows))

    def mean(self, values: Floats) -> float:
        """Return the weighted mean over rows."""
        return float(np.average(values, weights=self.row_weight))

    def ranked(self, scores: Floats, k: int, inverse_propensity: Floats) -> Ranked:
        """Return the k best pairs of every row; ties go to the lower label."""
        padded = np.where(self.at >= 0, np.append(scores, -np.inf)[self.at], -np.inf)
        order = np.argsort(-padded, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(self.at, order, axis=1)
        labels = np.append(self.candidates.labels, -1)[best]
        hits = np.append(self.hits, False)[best]
        scores = np.take_along_axis(padded, order, axis=1)
        return Ranked(self.truth, labels, hits, scores, self.row_weight, inverse_propensity)

    def fit(
        self, trees: bool, rows: NDArray[np.bool_] | None = None
    ) -> tuple[list[TopKCalibrator], BoostedTrees | None]:
        """Fit calibrators and trees on the rows of a mask, by default on all."""
        weight = self.row_weight if rows is None else self.row_weight * rows
        n_models = self.candidates.scores.shape[1]
        calibrators = [
            TopKCalibrator().fit(self._found(m), self.truth, weight) for m in range(n_models)
        ]
        if not trees:
            return calibrators, None
        used = weight[self.candidates.rows] > 0
        pairs = self.candidates.take(used)
        features = pairs.features(self.label_frequency)
        return calibrators, BoostedTrees().fit(features, self.hits[used], weight[pairs.rows])

    def _found(self, model: int) -> sp.csr_array:
        """Return the scores of what a model retrieved."""
        found = self.candidates.take(self.candidates.found[:, model])
        counts = np.bincount(found.rows, minlength=found.n_rows)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        parts = (found.scores[:, model], found.labels, indptr)
        return sp.csr_array(parts, shape=self.truth.shape)

    def weigh(
        self, pairs: Candidates, calibrators: list[TopKCalibrator], forest: BoostedTrees | None
    ) -> Evidence:
        """Return the evidence on some pairs."""
        return weigh_evidence(pairs, calibrators, forest, self.label_frequency, self.judges_unseen)

    def cross_fit(self, evidence: Evidence) -> None:
        """Replace each row's evidence by that of calibrators and trees of the other folds."""
        candidates, trees = self.candidates, evidence.trees
        n_folds = min(N_FOLDS, candidates.n_rows)
        if n_folds < 2:
            return
        fold = np.arange(candidates.n_rows) % n_folds
        for number in range(n_folds):
            inside = fold[candidates.rows] == number
            fitted = self.fit(trees is not None, fold != number)
            part = self.weigh(candidates.take(inside), *fitted)
            evidence.probabilities[inside] = part.probabilities
            if trees is not None:
                trees[inside] = part.trees
