"""How the scores of several models become one.

With p_m the probability that model m's score of a pair stands for, shares s_m that add up to 1, the
log-odds t of boosted trees and the inverse propensity w_l of the label:

    score(x, l) = (1 - u) logit(sum_m s_m p_m) + u t + v ln w_l

The sum mixes probabilities and not log-odds: a model that has not heard of a label then takes away
its own share only, where a sum of log-odds would let it veto. The last term is what a metric that
pays w_l for a hit asks for: with v = 1 labels are ranked by p w_l, about the expected gain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from skxc.calibration import TopKCalibrator
from skxc.fusion._boosted import BoostedTrees
from skxc.fusion._candidates import Candidates

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
    """

    calibrators: list[TopKCalibrator]
    floors: Floats
    shares: Floats
    tilt: float = 0.0
    trees: BoostedTrees | None = None
    tree_share: float = 0.0

    def score(self, candidates: Candidates, label_frequency: NDArray, log_weight: Floats) -> Floats:
        """Return the score of every candidate pair.

        Parameters
        ----------
        candidates : Candidates
        label_frequency : ndarray of shape (n_labels,)
        log_weight : ndarray of float64, shape (e,)
            ln w_l of the label of every pair.

        Returns
        -------
        ndarray of float64, shape (e,)
        """
        trees = None
        if self.trees is not None and self.tree_share > 0:
            trees = self.trees.log_odds(candidates.features(label_frequency))
        probabilities = to_probabilities(self.calibrators, candidates)
        return combine(probabilities, trees, log_weight, self.shares, self.tilt, self.tree_share)


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
    probabilities: Floats,
    trees: Floats | None,
    log_weight: Floats,
    shares: Floats,
    tilt: float,
    tree_share: float,
) -> Floats:
    """Return the score of every pair by the formula above."""
    score = logit((probabilities * shares).sum(axis=1))
    if trees is not None and tree_share > 0:
        score = (1 - tree_share) * score + tree_share * trees
    return score + tilt * log_weight
