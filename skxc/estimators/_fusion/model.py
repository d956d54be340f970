"""What a fusion answers with: fitted members, and the rule that joins their lists."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import logit

from skxc._model import BLOCK_ROWS, Model, Reasons
from skxc._training_set import Features
from skxc.estimators._fusion.members import ask, ask_pairs, grown
from skxc.fusion import Candidates, Combiner, Learned, collect_candidates
from skxc.fusion._combiner import weigh_evidence
from skxc.metrics import inverse_propensity
from skxc.ranking import rank_pairs
from skxc.utils._loaded import check_number, sizes_of
from skxc.utils._sparse import TopK, pair_ids, values_at

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
        scores = self._scores(candidates)
        return rank_pairs(candidates.rows, candidates.labels, scores, shape=(X.shape[0], k))

    def score_pairs(
        self,
        queries: Features,
        rows: NDArray[np.integer],
        labels: NDArray[np.integer],
        own: sp.csr_array | None = None,
    ) -> NDArray[np.float32]:
        """Return the scores of pairs; those that a member retrieves score as in `search`.

        For the others the exact scores of the members stand in place of their smallest ones.
        """
        assert self.combiner is not None
        n_labels = len(self.frequency)
        lists = self.lists(queries, min(self.depth, n_labels))
        usual = self.candidates(lists, own)
        found = np.full(len(rows), -1)
        known = usual.rows * n_labels + usual.labels
        keys = rows * n_labels + labels
        at = np.minimum(np.searchsorted(known, keys), max(len(known) - 1, 0))
        if len(known):
            found = np.where(known[at] == keys, at, -1)
        missing = found < 0
        scores = np.empty(len(rows), dtype=np.float32)
        scores[~missing] = self._scores(usual)[found[~missing]]
        if missing.any():
            more = self._not_retrieved(queries, lists, rows[missing], labels[missing])
            scores[missing] = self._scores(more, usual.best())
        return scores

    def reasons(self, query: Features, label: int) -> Reasons:
        """Return what members, trees and rarity add, and the members' shares in the probability."""
        rule = self.combiner
        assert rule is not None
        lists = self.lists(query, min(self.depth, len(self.frequency)))
        usual = self.candidates(lists, None)
        best, pair = usual.best(), usual.take(usual.labels == label)
        if not len(pair.labels):
            pair = self._not_retrieved(query, lists, np.array([0]), np.array([label]))
        trees = rule.trees if rule.tree_share > 0 else None
        evidence = weigh_evidence(
            pair, rule.calibrators, trees, self.frequency, rule.judges_unseen, best
        )
        p, shares = evidence.probabilities[0], rule.shares
        if evidence.unseen[0]:  # there the most confident member speaks alone
            shares = np.eye(len(p))[np.where(shares > 0, p, -1).argmax()]
        odds = float(logit((p * shares).sum()))
        terms = {"members": odds}
        if evidence.trees is not None and evidence.judged[0]:
            terms["members"] = (1 - rule.tree_share) * odds
            terms["trees"] = rule.tree_share * float(evidence.trees[0])
        if rule.tilt:
            weight = float(np.log(self.inverse_propensity(np.array([label]))[0]))
            terms["rarity"] = rule.tilt * weight
        parts = p * shares / (p * shares).sum()
        return Reasons(terms, shares=dict(zip(self.names, parts.tolist(), strict=True)))

    def _scores(self, candidates: Candidates, best: Any = None) -> NDArray[np.float32]:
        assert self.combiner is not None
        log_weight = np.log(self.inverse_propensity(candidates.labels))
        scores = self.combiner.score(candidates, self.frequency, log_weight, best)
        return scores.astype(np.float32)

    def _not_retrieved(
        self,
        X: Features,
        lists: list[TopK],
        rows: NDArray[np.integer],
        labels: NDArray[np.integer],
    ) -> Candidates:
        """Return pairs that are in no list, with the exact scores of the members."""
        assert self.combiner is not None
        shape = X.shape[0], len(self.frequency)
        pairs = sp.csr_array((np.ones(len(rows), np.float32), (rows, labels)), shape=shape)
        scores, ranks = np.empty((2, len(rows), len(lists)))
        for m, (member, (found, theirs)) in enumerate(zip(self.members, lists, strict=True)):
            low = np.where(found >= 0, theirs, np.inf).min(axis=1, initial=np.inf)
            low = np.where(np.isinf(low), self.combiner.floors[m], low)
            exact = values_at(ask_pairs(member, X, pairs), rows, labels, np.nan)
            scores[:, m] = np.where(np.isnan(exact), low[rows], exact)
            ranks[:, m] = (found >= 0).sum(axis=1)[rows]
        return Candidates(shape[0], rows, labels, scores, ranks, np.zeros(scores.shape, dtype=bool))

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
