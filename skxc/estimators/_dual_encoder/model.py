"""What a dual encoder answers with: label vectors, and training rows whose labels vote."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc._model import BLOCK_ROWS, Reasons, Record, in_blocks
from skxc._training_set import Features, TrainingSet
from skxc.estimators._encoding import EncoderModel, PoolFigures
from skxc.indices import VectorSearch
from skxc.metrics._weighted import weighted_at_k
from skxc.ranking import NeighborVotes, Votes, add_votes, inner_products, neighbor_votes
from skxc.ranking._votes import neighbor_shares
from skxc.utils._loaded import sizes_of
from skxc.utils._same_text import same_text_pairs
from skxc.utils._sparse import TopK, values_at

# Weights of votes that "auto" tries, and the one it takes where it has no held-out rows.
VOTE_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
USUAL_VOTE_WEIGHT = 0.4


@dataclass(frozen=True, eq=False)
class TrainingRows(Record):
    """Training rows that vote.

    Attributes
    ----------
    vectors : VectorSearch of n unit vectors
    y : csr_array of shape (n, n_labels)
    weight : ndarray of float32, shape (n,)
    """

    vectors: VectorSearch
    y: sp.csr_array
    weight: NDArray[np.float32]

    def _check_loaded(self) -> None:
        sizes_of(self, vectors="n d", y="n L", weight="n")

    @classmethod
    def of(cls, vectors: NDArray[np.float32], data: TrainingSet) -> TrainingRows:
        """Return all rows of the training data with their vectors."""
        return cls(VectorSearch(vectors), data.y, data.sample_weight.astype(np.float32))


@dataclass(frozen=True, eq=False)
class DualEncoderModel(EncoderModel):
    """An encoder, label vectors, and training rows.

    Attributes
    ----------
    texts : VectorSearch of L unit vectors, or None
        Of the label texts; None where classifiers score and only these were saved.
    classifiers : VectorSearch of L unit vectors, or None
        What scores labels where it is there; the texts do otherwise.
    rows : TrainingRows or None
        None where no row votes.
    votes : NeighborVotes or None
    index : str or Index
        How vectors are searched.
    figures : PoolFigures
    vote_weight : float
        The weight that ``NeighborVotes(weight="auto")`` stands for.
    """

    texts: VectorSearch | None
    classifiers: VectorSearch | None
    rows: TrainingRows | None
    votes: NeighborVotes | None
    index: Any
    figures: PoolFigures
    vote_weight: float = USUAL_VOTE_WEIGHT

    _chosen = ("vote_weight",)

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return len(self.labels)

    def _for_prediction(self) -> DualEncoderModel:
        """Return the model without the vectors that no answer needs."""
        return self if self.classifiers is None else replace(self, texts=None)

    def _check_loaded(self) -> None:
        if self.texts is None and self.classifiers is None:
            raise ValueError("`texts` or `classifiers` must be there")
        shape = f"{len(self.labels)} {self.encoder.dim_}"
        sizes_of(self, texts=shape, classifiers=shape)
        if self.rows is not None:
            sizes_of(self.rows, vectors=f"n {self.encoder.dim_}", y=f"n {len(self.labels)}")

    @property
    def labels(self) -> VectorSearch:
        """The vectors that score labels."""
        labels = self.texts if self.classifiers is None else self.classifiers
        assert labels is not None
        return labels

    def search(self, queries: NDArray[np.float32], k: int) -> TopK:
        """Return the best labels by the label vectors and the votes of near rows."""
        return in_blocks(self._search, queries, k)

    def _search(self, queries: NDArray[np.float32], k: int) -> TopK:
        found = self.labels.search(queries, k, self.index)
        weight = self._weight
        return self._with_votes(found, self._votes(queries), weight, queries) if weight else found

    def score_pairs(
        self, queries: NDArray[np.float32], rows: NDArray[np.integer], labels: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """Return the scores of pairs by the label vectors and the votes of near rows."""
        scores = inner_products(queries, self.labels.vectors, rows, labels)
        if weight := self._weight:
            votes = self._votes(queries)
            shape = len(queries), self.n_labels
            voted = sp.csr_array((votes.values, (votes.rows, votes.labels)), shape=shape)
            scores += np.float32(weight) * values_at(voted, rows, labels, 0)
        return scores

    def reasons(self, query: NDArray[np.float32], label: int) -> Reasons:
        """Return the inner product with the label's vector, and the votes of near rows."""
        own = float(query[0] @ self.labels.vectors[label])
        if not self._weight or self.rows is None or self.votes is None:
            return Reasons({"label": own})
        near, similarity = self._near(query)
        share = neighbor_shares(near, similarity, self.rows.weight, self.votes.temperature)[0]
        effects = self._weight * share * self.rows.y[near[0]][:, [label]].toarray()[:, 0]
        voters = near[0][effects > 0]
        return Reasons(
            {"label": own, "votes": float(effects.sum())},
            row_effects=effects[effects > 0],
            row_labels=[self.rows.y[[row]].indices for row in voters],
            row_vectors=self.rows.vectors.vectors[voters],
        )

    @property
    def _weight(self) -> float:
        """The weight of votes, 0 where there are none."""
        if self.rows is None or self.votes is None:
            return 0.0
        return self.vote_weight if self.votes.weight == "auto" else self.votes.weight

    def _votes(self, queries: NDArray[np.float32]) -> Votes:
        rows, votes = self.rows, self.votes
        assert rows is not None and votes is not None
        near, similarity = self._near(queries)
        return neighbor_votes(near, similarity, rows.y, rows.weight, votes.temperature)

    def _near(self, queries: NDArray[np.float32]) -> TopK:
        """Return the rows that vote, and their inner products with the queries."""
        rows, votes = self.rows, self.votes
        assert rows is not None and votes is not None
        n_neighbors = min(votes.n_neighbors, len(rows.vectors))
        return rows.vectors.search(queries, n_neighbors, self.index)

    def _with_votes(
        self, found: TopK, votes: Votes, weight: float, queries: NDArray[np.float32]
    ) -> TopK:
        scores = partial(inner_products, queries, self.labels.vectors)
        return add_votes(found, votes, weight, scores)

    def with_best_weight(self, held_out: TrainingSet | None) -> DualEncoderModel:
        """Return the model with the vote weight of the best nDCG@5; ties to the smaller one."""
        if self.rows is None or self.votes is None or self.votes.weight != "auto":
            return self
        if held_out is None or not held_out.y.nnz:
            return self
        rows = held_out.take(np.arange(min(BLOCK_ROWS, held_out.n_samples)))
        queries = self.embed(rows.X)
        found = self.labels.search(queries, min(10, len(self.labels)), self.index)
        votes = self._votes(queries)
        own = same_text_pairs(rows.X, rows.label_features, rows.y)
        gains = [
            weighted_at_k(
                "ndcg",
                rows.y,
                self._with_votes(found, votes, weight, queries)[0],
                5,
                rows.sample_weight,
                own,
            )
            for weight in VOTE_WEIGHTS
        ]
        return replace(self, vote_weight=VOTE_WEIGHTS[int(np.argmax(gains))])

    def with_labels(self, features: Features) -> DualEncoderModel:
        """Return the model with labels that are known by their text alone."""
        prepared = self.prepare_new_labels(features)
        new = self.encoder.encode(prepared, precision=self.precision)
        rows, classifiers = self.rows, self.classifiers
        if rows is not None:
            y = rows.y
            shape = (y.shape[0], y.shape[1] + len(new))
            rows = replace(rows, y=sp.csr_array((y.data, y.indices, y.indptr), shape=shape))
        return replace(
            self,
            texts=None if self.texts is None else self.texts.extended(new),
            classifiers=None if classifiers is None else classifiers.extended(new),
            rows=rows,
        )
