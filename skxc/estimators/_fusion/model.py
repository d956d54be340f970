"""What a fusion answers with: fitted members, and the rule that joins their lists."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc._model import BLOCK_ROWS, Model
from skxc._training_set import Features
from skxc.estimators._fusion.members import ask, grown
from skxc.fusion import Candidates, Combiner, Learned, collect_candidates
from skxc.metrics import inverse_propensity
from skxc.ranking import rank_pairs
from skxc.utils._loaded import check_number, sizes_of
from skxc.utils._sparse import TopK, pair_ids

# Propensities are defined from this number of rows on.
FEWEST_FOR_PROPENSITY = 3


@dataclass(frozen=True, eq=False)
class FusionModel(Model):
    """Fitted members and a rule.

    Attributes
    ----------
    names : list of str
    members : list of estimator
    combiner : Combiner or None
        None while the rule is being learned.
    frequency : ndarray of shape (n_labels,)
        Weighted rows of every label among those that the members were fitted on.
    n_samples : float
        Weighted number of these rows.
    depth : int
        For how many labels members are asked at least.
    objective : float
        The objective on held-out rows, cross-fitted.
    member_objectives : ndarray of float64, shape (n_members,), or None
    """

    names: list[str]
    members: list[Any]
    combiner: Combiner | None
    frequency: NDArray
    n_samples: float
    depth: int
    objective: float = np.nan
    member_objectives: NDArray[np.float64] | None = None

    _may_be_nan = ("objective", "member_objectives")

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return len(self.frequency)

    def _check_loaded(self) -> None:
        sizes_of(self, names="M", members="M", member_objectives="M", frequency="L")
        check_number("depth", self.depth, 1)
        check_number("n_samples", self.n_samples, 0)
        if self.combiner is None or len(self.combiner.calibrators) != len(self.members):
            raise ValueError("`combiner` must have one calibrator per member")
        for name, member in self.named_members.items():
            # Members of scikit-learn, such as pipelines, do not tell.
            if vars(member).get("n_labels_", self.n_labels) != self.n_labels:
                raise ValueError(f"the member {name!r} must have {self.n_labels} labels")

    @property
    def named_members(self) -> dict[str, Any]:
        """The members by name."""
        return dict(zip(self.names, self.members, strict=True))

    def with_rule(self, learned: Learned) -> FusionModel:
        """Return the model with a learned rule and what it reached."""
        return replace(
            self,
            combiner=learned.combiner,
            objective=learned.objective,
            member_objectives=learned.member_objectives,
        )

    def lists(self, X: Features, k: int) -> list[TopK]:
        """Return the k best labels of every row by each member."""
        return [ask(member, X, k) for member in self.members]

    def inverse_propensity(self, labels: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the weights of labels; ones where there are too few rows to define them."""
        if self.n_samples < FEWEST_FOR_PROPENSITY:
            return np.ones(len(labels))
        return inverse_propensity(self.frequency[labels], self.n_samples)

    def search(self, queries: Features, k: int, own: sp.csr_array | None = None) -> TopK:
        """Return the best labels by the rule, to which the own labels of samples are no candidates.

        Parameters
        ----------
        queries : samples, n rows
        k : int
        own : csr_array of shape (n, n_labels), or None
        """
        blocks = []
        for start in range(0, max(queries.shape[0], 1), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            blocks.append(self._search(queries[rows], k, None if own is None else own[rows]))
        labels, scores = zip(*blocks, strict=True)
        return np.concatenate(labels), np.concatenate(scores)

    def candidates(self, lists: list[TopK], own: sp.csr_array | None) -> Candidates:
        """Return the labels in any of the lists, without own ones."""
        n_labels = len(self.frequency)
        floors = None if self.combiner is None else self.combiner.floors
        candidates = collect_candidates(lists, n_labels, floors)
        if own is None:
            return candidates
        keys = candidates.rows * n_labels + candidates.labels
        return candidates.take(~np.isin(keys, pair_ids(own)))

    def _search(self, X: Features, k: int, own: sp.csr_array | None) -> TopK:
        assert self.combiner is not None
        lists = self.lists(X, min(max(k, self.depth), len(self.frequency)))
        candidates = self.candidates(lists, own)
        log_weight = np.log(self.inverse_propensity(candidates.labels))
        scores = self.combiner.score(candidates, self.frequency, log_weight).astype(np.float32)
        return rank_pairs(candidates.rows, candidates.labels, scores, shape=(X.shape[0], k))

    def with_labels(self, features: Features) -> FusionModel:
        """Return the model with labels that are known by their features to every member."""
        n_new = features.shape[0]
        return replace(
            self,
            # Copies, so that a member that fails leaves the others as they were.
            members=[grown(member, features) for member in self.members],
            frequency=np.pad(self.frequency, (0, n_new)),
            depth=self.depth,
        )
