"""Nearest neighbours: the labels of the most similar training rows, weighted by the similarity.

    score(x, l) = sum over the n_neighbors rows i with the largest cos(x, x_i) of
                  w_i * cos(x, x_i)^power * y_il

with the sample weights w. Rows with a cosine of zero or less have no vote. The simplest baseline of
the field, and a strong one where names of related samples look alike.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metadata_routing import UNUSED

from skxc.base import BaseXC, Features, TrainingSet
from skxc.indices import Index, make_index
from skxc.utils._sparse import TopK, normalize_rows, pack_topk, rank_rows, row_ids, top_k

if TYPE_CHECKING:
    from typing_extensions import Self

# Cells of the largest similarity block: 64 MB of float32.
BLOCK_CELLS = 2**24


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
    top_k : int, default=100
        Number of labels that are retrieved per row.
    threshold : float, default=0.5
        Smallest probability of a predicted label.
    vectorizer : transformer, default=None
        Turns texts into a feature matrix; a clone is fitted on the training texts.

    Attributes
    ----------
    samples_ : csr_array of float32 or ndarray of float64, shape (n_features, n_rows)
        Normalised training rows, transposed; dense where most features are not zero.
    votes_ : csr_array of float32, shape (n_rows, n_labels)
        Labels of the training rows, times their weights.
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

    __metadata_request__fit: ClassVar[dict[str, Any]] = {"graph": UNUSED, "label_features": UNUSED}

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{
            name: BaseXC._parameter_constraints[name]
            for name in ("top_k", "threshold", "vectorizer")
        },
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "power": [Interval(Real, 0, None, closed="left")],
        "index": [StrOptions({"exact", "hnsw", "ivf"}), Index],
    }

    # The approximate index with its name; built when it is first asked for, never saved.
    _built_index: tuple[str, Index] | None = None

    def __init__(
        self,
        *,
        n_neighbors: int = 20,
        power: float = 1.0,
        index: Any = "exact",
        top_k: int = 100,
        threshold: float = 0.5,
        vectorizer: Any = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.power = power
        self.index = index
        self.top_k = top_k
        self.threshold = threshold
        self.vectorizer = vectorizer

    def fit(  # type: ignore[override]
        self, X: Any, y: Any, *, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Store the training rows and calibrate on some of them.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), or sequence of str
            Samples. Texts need a ``vectorizer``.
        y : sparse matrix or array-like of shape (n_samples, n_labels), or of shape (n_samples,)
            Binary indicator, or one class per sample. Rows without labels are allowed.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights. An integer weight equals a repetition of the row.

        Returns
        -------
        self
        """
        return super().fit(X, y, sample_weight=sample_weight)

    def _gives_rows_back(self, n_samples: int) -> bool:
        return True  # a second training costs nothing

    def _fit(self, data: TrainingSet, held_out: TrainingSet | None) -> None:
        rows = sp.csr_array(normalize_rows(data.X))
        mostly_filled = 2 * rows.nnz > rows.shape[0] * rows.shape[1]
        if not mostly_filled and self.index != "exact":
            raise ValueError(
                f'`index` must be "exact" for rows of which most features are zero, but is '
                f"{self.index!r}. Pass dense rows, such as embeddings, or leave it out."
            )
        self._built_index = None
        # In float64, since float32 sums would depend on how many rows are asked at once.
        self.samples_ = rows.T.toarray().astype(float) if mostly_filled else sp.csr_array(rows.T)
        weight = data.sample_weight[row_ids(data.y)].astype(np.float32)
        self.votes_ = sp.csr_array((weight, data.y.indices, data.y.indptr), shape=data.y.shape)

    def _search(self, X: Features, k: int) -> TopK:
        size = max(1, BLOCK_CELLS // self.votes_.shape[0])
        blocks = [
            self._search_block(X[start : start + size], k) for start in range(0, X.shape[0], size)
        ]
        indices, scores = zip(*blocks, strict=True)
        return np.concatenate(indices), np.concatenate(scores)

    def _search_block(self, X: sp.csr_array, k: int) -> TopK:
        """Return the best labels of a few rows."""
        neighbours, similarity = self._nearest(sp.csr_array(normalize_rows(X)))
        neighbours = np.where(similarity > 0, neighbours, -1)
        similarity = np.maximum(similarity, 0) ** np.float32(self.power)
        weights = pack_topk(neighbours, similarity, self.votes_.shape[0])
        return rank_rows(weights @ self.votes_, k)

    def _nearest(self, X: sp.csr_array) -> TopK:
        """Return the nearest training rows of a few rows of length one, with their cosines."""
        if self.index != "exact":
            return self._approximate().search(X.toarray(), self.n_neighbors)
        if isinstance(self.samples_, np.ndarray):
            return top_k(X.toarray() @ self.samples_, self.n_neighbors)
        return top_k((X @ self.samples_).toarray(), self.n_neighbors)

    def _approximate(self) -> Index:
        """Return the index over the training rows."""
        name = repr(self.index)
        if self._built_index is None or self._built_index[0] != name:
            index = make_index(self.index)
            index.add(self.samples_.T)
            self._built_index = name, index
        return self._built_index[1]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the index, which is built again from the rows."""
        return super().__getstate__() | {"_built_index": None}
