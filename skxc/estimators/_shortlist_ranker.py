"""Scores in two levels: clusters of labels first, then the labels of the best clusters.

    s      <- sigmoid(h_m . x^ + c)          the B best clusters
    s      <- s / 2 + top_B(s G_clusters) / 2
    p_l    =  s_m(l)^a sigmoid(w_l . x^)     their labels; the best `width` stay; a = 1 in the paper
    p      <- p / 2 + top_width(p G_labels) / 2

Source: ECLARE (WWW 2021), sections on inference and on score propagation (GAME).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import expit

from skxc.graphs import keep_strongest, propagate
from skxc.indices import ExactIndex
from skxc.ranking import inner_products
from skxc.utils._sparse import normalize_rows, pack_topk, row_ids

if TYPE_CHECKING:
    from skxc.training import FusedClassifierTask

Vectors = NDArray[np.float32]
# Rows whose candidates are made at once.
BLOCK_ROWS = 1024


@dataclass(frozen=True, eq=False)
class DocumentMap:
    """``x^ = ReLU(u + ReLU(u) @ matrix + offset)``: a trained document block.

    Attributes
    ----------
    matrix : ndarray of float32, shape (d, d)
    offset : ndarray of float32, shape (d,)
    """

    matrix: Vectors
    offset: Vectors

    def __call__(self, vectors: Vectors) -> Vectors:
        """Return the documents, shape (n, d)."""
        # In double precision, so that a row's result does not depend on the rows beside it.
        hidden = np.maximum(vectors, 0).astype(np.float64)
        mapped = vectors + hidden @ self.matrix + self.offset
        return normalize_rows(np.maximum(mapped, 0)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class ShortlistRanker:
    """What one member of a `LabelGraphXC` has learnt.

    Attributes
    ----------
    membership : csr_array of float32 ones, shape (K, L)
        The labels of every cluster; a label is in exactly one.
    cluster_weights, label_weights : ndarray of float32, shapes (K, d) and (L, d)
        Classifiers.
    cluster_offset, label_offset : float
        Added to all scores of clusters, and of labels.
    cluster_documents, label_documents : DocumentMap
        What maps text vectors to documents for either.
    cluster_graph, label_graph : csr_array or None, shapes (K, K) and (L, L)
        Normalised graphs that scores spread over; None: they do not.
    encoders : tuple of two encoders, or None
        Those of clusters and labels, where they were trained with the classifiers.
    """

    membership: sp.csr_array
    cluster_weights: Vectors
    label_weights: Vectors
    cluster_offset: float
    label_offset: float
    cluster_documents: DocumentMap
    label_documents: DocumentMap
    cluster_graph: sp.csr_array | None = None
    label_graph: sp.csr_array | None = None
    encoders: tuple[Any, Any] | None = None

    @cached_property
    def _cluster_index(self) -> ExactIndex:
        """The classifiers of the clusters, made ready for search once."""
        index = ExactIndex()
        index.add(self.cluster_weights)
        return index

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone: the index is built again from the classifiers."""
        return {name: value for name, value in vars(self).items() if name != "_cluster_index"}

    def best_clusters(self, vectors: Vectors, beam_size: int) -> sp.csr_array:
        """Return the probabilities of the best clusters of every row, shape (n, K).

        Parameters
        ----------
        vectors : ndarray of float32, shape (n, d)
            Text vectors.
        beam_size : int
            Best clusters; as many more may arrive over the graph.
        """
        n_clusters = len(self.cluster_weights)
        documents = self.cluster_documents(vectors)
        found, scores = self._cluster_index.search(documents, min(beam_size, n_clusters))
        best = pack_topk(found, expit(scores + np.float32(self.cluster_offset)), n_clusters)
        return (
            best if self.cluster_graph is None else propagate(best, self.cluster_graph, beam_size)
        )

    def candidates(
        self, clusters: sp.csr_array, width: int, graph: sp.csr_array | None
    ) -> sp.csr_array:
        """Return the labels that the ranker learns to tell apart for every row, the likely ones.

        Parameters
        ----------
        clusters : csr_array of shape (n, K)
            What `best_clusters` returned.
        width : int
            Labels of a row.
        graph : csr_array of shape (L, L) or None
            Adds the labels that it reaches from those of the clusters.

        Returns
        -------
        csr_array of float32, shape (n, L)
        """
        blocks = []
        for start in range(0, clusters.shape[0], BLOCK_ROWS):
            likely = sp.csr_array(clusters[start : start + BLOCK_ROWS] @ self.membership)
            likely = keep_strongest(likely, width)
            if graph is not None:
                likely = keep_strongest(propagate(likely, graph, width), width)
            blocks.append(likely)
        return sp.csr_array(sp.vstack(blocks, format="csr"))

    def score(
        self,
        clusters: sp.csr_array,
        vectors: Vectors,
        width: int,
        *,
        power: float = 1.0,
        spread: bool = True,
    ) -> sp.csr_array:
        """Return the probabilities of the labels of these clusters, shape (n, L).

        Parameters
        ----------
        clusters : csr_array of shape (n, K)
            What `best_clusters` returned.
        vectors : ndarray of float32, shape (n, d)
            Text vectors.
        width : int
            Best labels of a row; as many more may arrive over the graph.
        power : float, default=1.0
            Of the clusters' probabilities.
        spread : bool, default=True
            Whether scores spread over the graph of the labels, if there is one.
        """
        shortlist = sp.csr_array(clusters @ self.membership)
        documents = self.label_documents(vectors)
        rows, labels = row_ids(shortlist), shortlist.indices
        products = inner_products(documents, self.label_weights, rows, labels)
        probabilities = expit(products + np.float32(self.label_offset))
        shortlist.data = shortlist.data ** np.float32(power) * probabilities
        best = keep_strongest(shortlist, width)
        graph = self.label_graph if spread else None
        return best if graph is None else propagate(best, graph, width)

    def with_ranker(self, ranker: FusedClassifierTask) -> ShortlistRanker:
        """Return the member with a ranker's classifiers, materialised."""
        encoders = self.encoders
        if encoders is not None:
            encoders = (encoders[0], ranker.encoder)
        return replace(
            self,
            label_weights=ranker.classifier_weights(),
            label_offset=float(ranker.classifiers.offset.detach()),
            label_documents=DocumentMap(*ranker.document.to_numpy()),
            encoders=encoders,
        )
