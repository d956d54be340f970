"""How the scores of several models become one.

With p_m the probability that model m's score of a pair stands for, shares s_m that add up to 1, the
log-odds t of boosted trees and the inverse propensity w_l of the label:

    score(x, l) = (1 - u) logit(p) + u t + v ln w_l
    p = sum_m s_m p_m, or max_m p_m (of the models with a share) for a label without training rows

The sum mixes probabilities and not log-odds: a model that has not heard of a label then takes away
its own share only, where a sum of log-odds would let it veto. Of labels without any training row
most models have heard nothing, so there the one that knows most speaks alone; and so it does in
place of the trees, where they have seen too few right labels of this kind to judge. The last term
is what a metric that pays w_l for a hit asks for: with v = 1 labels are ranked by p w_l, about the
expected gain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from skxc.calibration import TopKCalibrator
from skxc.fusion._boosted import BoostedTrees
from skxc.fusion._candidates import Candidates, n_features
from skxc.utils._loaded import check_ids, check_number, sizes_of

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Combiner:
    """A fitted rule; learned by :func:`learn_combiner`.

    Attributes
    ----------
    calibrators : list of TopKCalibrator
        Of each model: from its score to a probability.
    floors : ndarray of float64, shape (M,)
        Of each model: the score in rows where it retrieves nothing.
    shares : ndarray of float64, shape (M,)
        Not negative, with the sum 1.
    tilt : float
        v above: 0 counts all labels alike, larger values favour rare ones.
    trees : BoostedTrees or None
    tree_share : float
        u above, between 0 and 1.
    judges_unseen : bool
        Whether the trees count for labels without training rows.
    """

    calibrators: list[TopKCalibrator]
    floors: Floats
    shares: Floats
    tilt: float = 0.0
    trees: BoostedTrees | None = None
    tree_share: float = 0.0
    judges_unseen: bool = True

    def _check_loaded(self) -> None:
        n_models = sizes_of(self, calibrators="M", floors="M", shares="M")["M"]
        check_number("tree_share", self.tree_share, 0, 1)
        check_number("smallest of `shares`", self.shares.min(), 0)
        check_number("sum of `shares`", self.shares.sum(), 0.99, 1.01)
        if self.trees is not None:
            check_ids("feature_", self.trees.feature_, n_features(n_models))

    def score(
        self,
        candidates: Candidates,
        label_frequency: NDArray,
        log_weight: Floats,
        best: Floats | None = None,
    ) -> Floats:
        """Return the score of every candidate pair.

        Parameters
        ----------
        candidates : Candidates
        label_frequency : ndarray of shape (n_labels,)
        log_weight : ndarray of float64, shape (e,)
            ln w_l of the label of every pair.
        best : ndarray of float64, shape (n_rows, M), default=None
            Largest score of every row by each model; None: among these candidates.

        Returns
        -------
        ndarray of float64, shape (e,)
        """
        trees = self.trees if self.tree_share > 0 else None
        evidence = weigh_evidence(
            candidates, self.calibrators, trees, label_frequency, self.judges_unseen, best
        )
        return combine(evidence, log_weight, self.shares, self.tilt, self.tree_share)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the models and the trees say of every candidate pair.

    Attributes
    ----------
    probabilities : ndarray of float64, shape (e, M)
    trees : ndarray of float64, shape (e,), or None
        Log-odds.
    unseen : ndarray of bool, shape (e,)
        Whether the label has no training row.
    judged : ndarray of bool, shape (e,)
        Whether the trees count.
    """

    probabilities: Floats
    trees: Floats | None
    unseen: NDArray[np.bool_]
    judged: NDArray[np.bool_]


def weigh_evidence(
    candidates: Candidates,
    calibrators: list[TopKCalibrator],
    trees: BoostedTrees | None,
    label_frequency: NDArray,
    judges_unseen: bool,
    best: Floats | None = None,
) -> Evidence:
    """Return the evidence on candidate pairs."""
    unseen = candidates.unseen(label_frequency)
    return Evidence(
        to_probabilities(calibrators, candidates),
        None if trees is None else trees.log_odds(candidates.features(label_frequency, best)),
        unseen,
        ~unseen | judges_unseen,
    )


def to_probabilities(calibrators: list[TopKCalibrator], candidates: Candidates) -> Floats:
    """Return the probability that each model gives each pair, shape (e, M)."""
    return np.stack(
        [
            calibrator.transform_array(candidates.scores[:, m])
            for m, calibrator in enumerate(calibrators)
        ],
        axis=1,
    )


def combine(
    evidence: Evidence, log_weight: Floats, shares: Floats, tilt: float, tree_share: float
) -> Floats:
    """Return the score of every pair by the formula above."""
    p = evidence.probabilities
    mixed = (p * shares).sum(axis=1)
    score = logit(np.where(evidence.unseen, p[:, shares > 0].max(axis=1), mixed))
    if evidence.trees is not None and tree_share > 0:
        trees = np.where(evidence.judged, evidence.trees, score)
        score = (1 - tree_share) * score + tree_share * trees
    return score + tilt * log_weight
