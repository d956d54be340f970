"""Re-ranking: two scores of the same candidates, joined by what held-out rows say of them.

    fused = (1 - w) logit P(base) + w (0.7 logit P(ranker) + 0.3 logit T(ranker, base, frequency))

P are calibrated probabilities, T a tree of depth 5, and w is the best of a few values by nDCG@5;
ties go to the smaller one, so a ranker that says nothing changes nothing. Calibrators and tree are
fitted on one half of the rows when w is chosen on the other.

Source: the score fusion of ELIAS++ (NeurIPS 2022), which has w = 1, probabilities instead of their
log-odds, and exp(-max(0, 1 - r)^3) for that of the ranker.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.base import BaseEstimator

from skxc.calibration import TopKCalibrator
from skxc.utils._score_tree import ScoreTree
from skxc.utils._sparse import pair_ids, rank_rows, row_ids

Floats = NDArray[np.float64]
RANKER_SHARE, TREE_SHARE = 0.7, 0.3
TREE_DEPTH = 5
WEIGHTS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
TOP = 5
# Shares of relevant pairs in the leaves of the tree stay this far inside (0, 1).
SMALLEST_SHARE = 1e-4


class RerankFusion(BaseEstimator):
    """Join the scores of a model and of a ranker of its candidates.

    Attributes
    ----------
    weight_ : float
        w; 0 leaves the ranking as it was.
    base_, ranker_ : TopKCalibrator
    tree_ : ScoreTree
        Not there if the scores of the ranker are all the same.
    """

    def fit(
        self,
        base: sp.csr_array,
        ranker: sp.csr_array,
        y: sp.csr_array,
        label_frequency: NDArray,
    ) -> RerankFusion:
        """Fit calibrators and tree, and choose the weight, on rows that neither model has seen.

        Parameters
        ----------
        base, ranker : csr_array of shape (n, n_labels)
            Scores of the candidates; the same entries are stored.
        y : csr_array of shape (n, n_labels)
        label_frequency : ndarray of shape (n_labels,)

        Returns
        -------
        self
        """
        self.weight_ = 0.0
        if not ranker.nnz or np.ptp(ranker.data) == 0:
            return self
        half = np.arange(base.shape[0]) % 2
        gains = np.zeros(len(WEIGHTS))
        for number in range(2):
            learn, judge = np.flatnonzero(half == number), np.flatnonzero(half != number)
            if base[learn].nnz:
                self._fit_parts(base[learn], ranker[learn], y[learn], label_frequency)
                gains += self._gains(base[judge], ranker[judge], y[judge], label_frequency)
        self.weight_ = WEIGHTS[int(np.argmax(gains))]
        return self._fit_parts(base, ranker, y, label_frequency)

    def _fit_parts(
        self, base: sp.csr_array, ranker: sp.csr_array, y: sp.csr_array, frequency: NDArray
    ) -> RerankFusion:
        self.base_ = TopKCalibrator().fit(base, y)
        self.ranker_ = TopKCalibrator().fit(ranker, y)
        hits = np.isin(pair_ids(base), pair_ids(y))
        self.tree_ = ScoreTree(max_depth=TREE_DEPTH).fit(_features(base, ranker, frequency), hits)
        return self

    def _gains(
        self, base: sp.csr_array, ranker: sp.csr_array, y: sp.csr_array, frequency: NDArray
    ) -> Floats:
        """Return the summed nDCG of every weight."""
        parts = self._parts(base, ranker, frequency)
        truth = pair_ids(y)
        discount = 1 / np.log2(np.arange(TOP) + 2)
        ideal = np.concatenate([[np.inf], np.cumsum(discount)])
        ideal = ideal[np.minimum(np.diff(y.indptr), TOP)]
        gains = []
        for weight in WEIGHTS:
            labels, _ = rank_rows(_joined(base, parts, weight), TOP)
            keys = np.arange(len(labels))[:, None] * y.shape[1] + labels
            hits = np.isin(keys, truth) & (labels >= 0)
            gains.append(((hits * discount).sum(axis=1) / ideal).sum())
        return np.array(gains)

    def _parts(
        self, base: sp.csr_array, ranker: sp.csr_array, frequency: NDArray
    ) -> tuple[Floats, Floats]:
        """Return the log-odds of the model, and those of ranker and tree."""
        share = self.tree_.predict_proba(_features(base, ranker, frequency)).astype(np.float64)
        tree = logit(np.clip(share, SMALLEST_SHARE, 1 - SMALLEST_SHARE))
        odds = logit(self.ranker_.transform_array(ranker.data))
        ranked = RANKER_SHARE * odds + TREE_SHARE * tree
        return logit(self.base_.transform_array(base.data)), ranked

    def join(
        self, base: sp.csr_array, ranker: sp.csr_array, label_frequency: NDArray
    ) -> sp.csr_array:
        """Return the fused scores, stored where those of the candidates are.

        Parameters
        ----------
        base, ranker : csr_array of shape (n, n_labels)
        label_frequency : ndarray of shape (n_labels,)

        Returns
        -------
        csr_array of float32, shape (n, n_labels)
        """
        if self.weight_ == 0:
            return base
        return _joined(base, self._parts(base, ranker, label_frequency), self.weight_)


def takes(ranker: Any, name: str) -> bool:
    """Tell whether the ``fit`` of a ranker has a parameter of this name."""
    return name in inspect.signature(ranker.fit).parameters


def score_candidates(ranker: Any, features: sp.csr_array, candidates: sp.csr_array) -> sp.csr_array:
    """Return a fitted ranker's scores of the candidates, in their structure.

    Parameters
    ----------
    ranker : estimator
        Its ``decision_function`` takes ``candidates``, or returns one column per label, dense or
        sparse. Labels that a sparse answer leaves out get a score below all of their row.
    features : csr_array of shape (n, n_features)
    candidates : csr_array of shape (n, n_labels)

    Returns
    -------
    csr_array of float32, shape (n, n_labels)
    """
    if takes(ranker, "candidates"):
        return ranker.decision_function(features, candidates=candidates)
    scores = ranker.decision_function(features)
    rows = row_ids(candidates)
    if not sp.issparse(scores):
        found = np.asarray(scores, dtype=np.float32)[rows, candidates.indices]
        return sp.csr_array((found, candidates.indices, candidates.indptr), candidates.shape)
    scores = sp.csr_array(scores)
    keys, wanted = pair_ids(scores), pair_ids(candidates)
    place = np.searchsorted(keys, wanted)
    known = np.append(keys, -1)[place] == wanted
    low = np.zeros(scores.shape[0], dtype=np.float32)
    np.minimum.at(low, row_ids(scores), scores.data)
    found = np.where(known, np.append(scores.data, 0)[place], low[rows] - 1).astype(np.float32)
    return sp.csr_array((found, candidates.indices, candidates.indptr), candidates.shape)


def _features(base: sp.csr_array, ranker: sp.csr_array, frequency: NDArray) -> Floats:
    return np.stack([ranker.data, base.data, np.log1p(frequency[base.indices])], axis=1)


def _joined(base: sp.csr_array, parts: tuple[Floats, Floats], weight: float) -> sp.csr_array:
    odds, ranked = parts
    scores = ((1 - weight) * odds + weight * ranked).astype(np.float32)
    return sp.csr_array((scores, base.indices, base.indptr), shape=base.shape)
