"""Scores in two levels: clusters of labels first, then the labels of the best clusters.

    s      <- sigmoid(h_m . x^ + c)          the B best clusters
    s      <- s / 2 + top_B(s G_clusters) / 2
    p_l    =  s_m(l)^a sigmoid(w_l . x^)     their labels; the best `width` stay; a = 1 in the paper
              times u                        for labels without training rows; u = 0 in the paper
    p      <- p / 2 + top_width(p G_labels) / 2

Source: ECLARE (WWW 2021), sections on inference and on score propagation (GAME).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.special import expit

from skxc._params import NonNegativeFloat, Part, PositiveInt, params
from skxc.encoders import Encoder
from skxc.estimators._label_graph.problem import text_vectors
from skxc.estimators._label_graph.task import FusedClassifierTask
from skxc.graphs import keep_strongest, propagate
from skxc.graphs._prune import block_by_block
from skxc.indices import VectorSearch
from skxc.ranking import inner_products
from skxc.utils._loaded import check_number, sizes_of
from skxc.utils._record import Record
from skxc.utils._sparse import normalize_rows, pack_topk, row_ids

Vectors = NDArray[np.float32]


@params
class Ranker(Part):
    """Which labels compete, in training and in answers.

    Parameters
    ----------
    max_candidates : int or None, default=100
        Likely labels of its shortlist that a training row is ranked against; None: the whole
        shortlist and its neighbours, as in the official code.
    n_negatives : int or None, default=6
        How many of these enter the pool of the row's batch at each step. All rows of the batch are
        scored against the pool: the labels of all of them, and these. In the same way, surrogate
        and shortlister score the clusters of the batch's labels. None: as in the official code,
        they score all clusters, and the ranker every row against its own candidates alone.
    propagate : bool, default=False
        Whether half of the scores of labels moves one hop over the graph, as in the paper: it finds
        more labels, and puts fewer right ones first. It may be changed after `fit`.
    unseen_weight : float, default=0.5
        Factor on the probability of labels without training rows, which only their text finds: no
        training has pushed it down where they are wrong. 0, as in the paper: they are left out. It
        may be changed after `fit`, but not from 0.
    """

    max_candidates: PositiveInt | None = 100
    n_negatives: PositiveInt | None = 6
    propagate: bool = False
    unseen_weight: NonNegativeFloat = 0.5


@dataclass(frozen=True)
class SearchSettings(Record):
    """What may be changed after training about the search.

    Attributes
    ----------
    beam_width : int
        Best clusters; as many more may arrive over the graph.
    power : float
        Of the clusters' probabilities.
    width : int
        Best labels of a row; as many more may arrive over the graph.
    unseen_weight : float
        Of the probabilities of labels without training rows.
    propagate_clusters, propagate_labels : bool
        Whether scores spread over the graphs, where there are graphs.
    """

    beam_width: int
    power: float
    width: int
    unseen_weight: float
    propagate_clusters: bool
    propagate_labels: bool

    def _check_loaded(self) -> None:
        check_number("beam_width", self.beam_width, 1)
        check_number("width", self.width, 1)


@dataclass(frozen=True, eq=False)
class DocumentMap(Record):
    """``x^ = ReLU(u + ReLU(u) @ matrix + offset)``: a trained document block.

    Attributes
    ----------
    matrix : ndarray of float32, shape (d, d)
    offset : ndarray of float32, shape (d,)
    """

    matrix: Vectors
    offset: Vectors

    def _check_loaded(self) -> None:
        sizes_of(self, matrix="d d", offset="d")

    def __call__(self, vectors: Vectors) -> Vectors:
        """Return the documents, shape (n, d)."""
        # In double precision, so that a row's result does not depend on the rows beside it.
        hidden = np.maximum(vectors, 0).astype(np.float64)
        mapped = vectors + hidden @ self.matrix + self.offset
        return normalize_rows(np.maximum(mapped, 0)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Scorer(Record):
    """Classifiers of clusters or of labels, and the documents that they meet.

    Attributes
    ----------
    encoder : Encoder
        Token embeddings.
    documents : DocumentMap
    classifiers : VectorSearch of m vectors
    offset : float
        Added to all scores.
    graph : csr_array of shape (m, m), or None
        Normalised; scores may spread over it.
    """

    encoder: Encoder
    documents: DocumentMap
    classifiers: VectorSearch
    offset: float
    graph: sp.csr_array | None

    def _check_loaded(self) -> None:
        sizes_of(self, classifiers=f"m {self.encoder.dim_}", graph="m m")
        sizes_of(self.documents, offset=str(self.encoder.dim_))

    @classmethod
    def of(cls, task: FusedClassifierTask, graph: sp.csr_array | None) -> Scorer:
        """Return the classifiers of a task's current weights, materialised."""
        return cls(
            encoder=task.encoder,
            documents=DocumentMap(*task.document.to_numpy()),
            classifiers=VectorSearch(task.classifier_weights()),
            offset=float(task.classifiers.offset.detach()),
            graph=graph,
        )

    def encode(self, rows: sp.csr_array, device: torch.device) -> Vectors:
        """Return the documents of prepared rows, shape (n, d)."""
        return self.documents(text_vectors(self.encoder.to(device), rows))


@dataclass(frozen=True, eq=False)
class ShortlistRanker(Record):
    """What one member of a `LabelGraphXC` has learned.

    Attributes
    ----------
    membership : csr_array of float32 ones, shape (K, L)
        The labels of every cluster; a label is in exactly one.
    unseen : ndarray of bool, shape (L,)
        Labels without training rows.
    clusters, labels : Scorer
    """

    membership: sp.csr_array
    unseen: NDArray[np.bool_]
    clusters: Scorer
    labels: Scorer

    def _check_loaded(self) -> None:
        n_clusters, n_labels = len(self.clusters.classifiers), len(self.labels.classifiers)
        sizes_of(self, membership=f"{n_clusters} {n_labels}", unseen=f"{n_labels}")

    def scores(
        self, rows: sp.csr_array, settings: SearchSettings, device: torch.device
    ) -> sp.csr_array:
        """Return the probabilities of the best labels of prepared rows, shape (n, L)."""
        shortlist = self.shortlist(rows, settings, device)
        return self.rank(self.labels.encode(rows, device), shortlist, settings)

    def shortlist(
        self, rows: sp.csr_array, settings: SearchSettings, device: torch.device
    ) -> sp.csr_array:
        """Return the probabilities of the best clusters of prepared rows, shape (n, K)."""

        def best(block: slice) -> sp.csr_array:
            return self.best_clusters(self.clusters.encode(rows[block], device), settings)

        return block_by_block(best, rows.shape[0])

    def best_clusters(self, documents: Vectors, settings: SearchSettings) -> sp.csr_array:
        """Return the probabilities of the best clusters of documents, shape (n, K)."""
        scorer, beam_width = self.clusters, settings.beam_width
        n_clusters = len(scorer.classifiers)
        found, scores = scorer.classifiers.search(documents, min(beam_width, n_clusters), "exact")
        best = pack_topk(found, expit(scores + np.float32(scorer.offset)), n_clusters)
        if scorer.graph is None or not settings.propagate_clusters:
            return best
        return propagate(best, scorer.graph, beam_width)

    def rank(
        self, documents: Vectors, shortlist: sp.csr_array, settings: SearchSettings
    ) -> sp.csr_array:
        """Return the probabilities of the labels of these clusters, shape (n, L).

        Parameters
        ----------
        documents : ndarray of float32, shape (n, d)
            As the classifiers of labels meet them.
        shortlist : csr_array of shape (n, K)
            What `best_clusters` returned.
        settings : SearchSettings
        """
        scorer, found = self.labels, sp.csr_array(shortlist @ self.membership)
        products = inner_products(
            documents, scorer.classifiers.vectors, row_ids(found), found.indices
        )
        probabilities = expit(products + np.float32(scorer.offset))
        found.data = found.data ** np.float32(settings.power) * probabilities
        found.data[self.unseen[found.indices]] *= np.float32(settings.unseen_weight)
        best = keep_strongest(found, settings.width)
        if scorer.graph is None or not settings.propagate_labels:
            return best
        return propagate(best, scorer.graph, settings.width)

    def candidates(self, shortlist: sp.csr_array, width: int) -> sp.csr_array:
        """Return the labels that the ranker learns to tell apart for every row, the likely ones.

        Parameters
        ----------
        shortlist : csr_array of shape (n, K)
            What `shortlist` returned.
        width : int
            Labels of a row, some of which the graph has reached from those of the clusters.

        Returns
        -------
        csr_array of float32, shape (n, L)
        """

        def likely(block: slice) -> sp.csr_array:
            labels = keep_strongest(sp.csr_array(shortlist[block] @ self.membership), width)
            if self.labels.graph is None:
                return labels
            return keep_strongest(propagate(labels, self.labels.graph, width), width)

        return block_by_block(likely, shortlist.shape[0])

    def with_ranker(self, task: FusedClassifierTask) -> ShortlistRanker:
        """Return the member with the classifiers of labels of a task's current weights."""
        return replace(self, labels=Scorer.of(task, self.labels.graph))
