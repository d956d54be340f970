"""Nearest neighbours: the labels of the most similar training rows, weighted by the similarity.

    score(x, l) = sum over the n_neighbors rows i with the largest cos(x, x_i) of
                  w_i * cos(x, x_i)^power * y_il

with the sample weights w. Rows with a cosine of zero or less have no vote. The simplest baseline of
the field, and a strong one where names of related samples look alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc._model import Reasons, in_blocks
from skxc._params import NonNegativeFloat, PositiveInt, params
from skxc.base import BaseXC, Fit, Model, TrainingSet, of_model
from skxc.indices import IndexLike, VectorSearch
from skxc.utils._loaded import sizes_of
from skxc.utils._sparse import (
    TopK,
    normalize_rows,
    pack_topk,
    rank_rows,
    row_ids,
    top_k,
    values_at,
)

# Cells of the largest similarity block: 64 MB of float32.
BLOCK_CELLS = 2**24


@dataclass(frozen=True, eq=False)
class NeighborsModel(Model):
    """Normalised training rows and their labels.

    Attributes
    ----------
    samples : csr_array of float32, ndarray of float64, or VectorSearch; n_rows samples
        Transposed for exact search, of shape (n_features, n_rows); dense where most features are
        not zero.
    votes : csr_array of float32, shape (n_rows, n_labels)
        Labels of the training rows, times their weights.
    n_neighbors : int
    power : float
    index : str or Index
    """

    samples: sp.csr_array | NDArray[np.float64] | VectorSearch
    votes: sp.csr_array
    n_neighbors: int
    power: float
    index: Any

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return int(self.votes.shape[1])

    def _check_loaded(self) -> None:
        by_row = isinstance(self.samples, VectorSearch)
        sizes_of(self, samples="n d" if by_row else "d n", votes="n L")

    def search(self, queries: sp.csr_array, k: int) -> TopK:
        """Return the best labels, block by block."""
        return in_blocks(self._search, queries, k, max(1, BLOCK_CELLS // self.votes.shape[0]))

    def score_pairs(
        self, queries: sp.csr_array, rows: NDArray[np.integer], labels: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """Return the scores of pairs; without a vote they are zero."""
        size = max(1, BLOCK_CELLS // self.votes.shape[0])
        starts = range(0, max(queries.shape[0], 1), size)
        scores = [self._scores(queries[start : start + size]) for start in starts]
        return values_at(sp.csr_array(sp.vstack(scores, format="csr")), rows, labels, 0)

    def reasons(self, query: sp.csr_array, label: int) -> Reasons:
        """Return the votes of the nearest rows that have the label."""
        (near,), (similarity,) = self._voters(query)
        near, similarity = near[near >= 0], similarity[near >= 0]
        votes = similarity * self.votes[near][:, [label]].toarray()[:, 0]
        voters = near[votes > 0]
        if isinstance(self.samples, VectorSearch):
            vectors: Any = self.samples.vectors[voters]
        else:
            vectors = self.samples[:, voters].T
        return Reasons(
            {"votes": float(votes.sum())},
            row_effects=votes[votes > 0],
            row_labels=[self.votes[[row]].indices for row in voters],
            row_vectors=sp.csr_array(vectors),
        )

    def _search(self, X: sp.csr_array, k: int) -> TopK:
        return rank_rows(self._scores(X), k)

    def _scores(self, X: sp.csr_array) -> sp.csr_array:
        """Return the sums of votes that labels have from a few rows."""
        return pack_topk(*self._voters(X), self.votes.shape[0]) @ self.votes

    def _voters(self, X: sp.csr_array) -> TopK:
        """Return the rows that vote, -1 for none, and the powers of their similarities."""
        neighbors, similarity = self._nearest(sp.csr_array(normalize_rows(X)))
        neighbors = np.where(similarity > 0, neighbors, -1)
        return neighbors, np.maximum(similarity, 0) ** np.float32(self.power)

    def _nearest(self, X: sp.csr_array) -> TopK:
        """Return the nearest training rows of a few rows of length one, with their cosines."""
        if isinstance(self.samples, VectorSearch):
            return self.samples.search(X.toarray(), self.n_neighbors, self.index)
        if isinstance(self.samples, np.ndarray):
            return top_k(X.toarray() @ self.samples, self.n_neighbors)
        return top_k((X @ self.samples).toarray(), self.n_neighbors)


@params
class KNeighborsXC(BaseXC):
    """Labels of the nearest training rows, by cosine similarity.

    Search is exact and goes through all training rows, block by block, unless `index` names an
    approximate one. Rows that are equal in ``X`` and ``y`` count as one neighbour, whose vote is
    multiplied by the sum of their weights.

    Parameters
    ----------
    n_neighbors : int, default=20
        Number of training rows that vote.
    power : float, default=1.0
        Exponent of the similarity in a vote. Larger values trust close rows more; 0 counts rows.
    index : {"exact", "hnsw", "ivf"} or Index, default="exact"
        How near rows are found. The approximate indices of faiss pay off from some 100,000 dense
        rows on, such as embeddings; rows that are mostly zeros are always searched exactly.

    Attributes
    ----------
    samples_ : csr_array of float32 or ndarray of float64, shape (n_features, n_rows)
        Normalised training rows, transposed; dense where most features are not zero.
    votes_ : csr_array of float32, shape (n_rows, n_labels)
        Labels of the training rows, times their weights.
    model_ : NeighborsModel
    classes_ : ndarray of shape (n_labels,)
        Column ids of the labels, or the class values of a 1-D ``y``.
    n_labels_ : int
        Number of labels.
    label_names_ : list of str or None
        Names of the labels, where ``y`` was a data frame.
    label_frequency_ : ndarray of shape (n_labels,)
        Weighted number of training rows of every label.
    n_samples_fit_ : int or float
        Weighted number of training rows.
    calibrator_ : TopKCalibrator
        Turns scores into probabilities.
    vectorizer_ : transformer
        The fitted vectoriser, where one was given.
    n_features_in_ : int
        Number of features, where ``X`` was a matrix.

    See Also
    --------
    skxc.DualEncoderXC : Learns the similarity, and retrieves labels without any training row.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from skxc import KNeighborsXC
    >>> texts = ["red wine", "white wine", "deep learning", "machine learning"]
    >>> y = sp.csr_array([[1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]])
    >>> knn = KNeighborsXC(vectorizer=TfidfVectorizer()).fit(texts, y)
    >>> knn.predict_labels(["wine of red grapes", "learning"], k=2)
    [[0, 1], [2]]
    """

    n_neighbors: PositiveInt = 20
    power: NonNegativeFloat = 1.0
    index: IndexLike = "exact"

    samples_ = of_model("samples", "Normalised training rows.")
    votes_ = of_model("votes", "Labels of the training rows, times their weights.")

    _search_parameters: ClassVar[tuple[str, ...]] = ("n_neighbors", "power")

    def _refits(self, n_samples: int) -> bool:
        return True  # a second training costs nothing

    def _train(self, fit: Fit) -> NeighborsModel:
        data: TrainingSet = fit.data
        rows = sp.csr_array(normalize_rows(data.X))
        mostly_filled = 2 * rows.nnz > rows.shape[0] * rows.shape[1]
        if not mostly_filled and self.index != "exact":
            raise ValueError(
                f'`index` must be "exact" for rows of which most features are zero, but is '
                f"{self.index!r}. Pass dense rows, such as embeddings, or leave it out."
            )
        weight = data.sample_weight[row_ids(data.y)].astype(np.float32)
        votes = sp.csr_array((weight, data.y.indices, data.y.indptr), shape=data.y.shape)
        samples: Any
        if self.index != "exact":
            samples = VectorSearch(rows.toarray())
        elif mostly_filled:
            # In float64, since float32 sums would depend on how many rows are asked at once.
            samples = rows.T.toarray().astype(float)
        else:
            samples = sp.csr_array(rows.T)
        return NeighborsModel(samples, votes, self.n_neighbors, self.power, self.index)

    def _current(self, model: NeighborsModel) -> NeighborsModel:
        return replace(model, n_neighbors=self.n_neighbors, power=self.power)
