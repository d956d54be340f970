"""From training data to what the stages of ECLARE work on, and what they predict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from skxc.encoders import Encoder
from skxc.estimators._encoding import fitted_encoder, prepared_labels
from skxc.estimators._neural import NeuralFit
from skxc.graphs import RandomWalk, hops, keep_strongest, without_columns
from skxc.utils._same_text import same_text_pairs
from skxc.utils._sparse import normalize_rows

# Heaviest words of a label's training rows that describe it where it has no text of its own.
CENTROID_WORDS = 1000


@dataclass(frozen=True, eq=False)
class Problem:
    """The training data of one fit, over the labels with rows or texts and the rows with both.

    Attributes
    ----------
    seed : int
    device : torch.device
    encoder : Encoder
        Fresh token embeddings, which the surrogate trains.
    labels : ndarray of int, shape (L,)
        Ids of the labels that can be predicted; everything below counts labels in this order.
    n_labels : int
        Labels of the data.
    rows : csr_array of shape (n, V)
        Prepared samples.
    y : csr_array of shape (n, L)
    sample_weight : ndarray of shape (n,)
    texts : csr_array of shape (L, V)
        Prepared label texts.
    excluded : csr_array of shape (n, L), or None
        Samples whose text is that of a label which they do not have.
    frequency : ndarray of float, shape (L,)
        Weighted training rows of every label.
    unseen : ndarray of bool, shape (L,)
        Labels without training rows.
    given : csr_array of shape (L, L) or None
        The user's graph.
    held_rows, held_y : csr_array of shapes (h, V) and (h, L), or None
    held_weight : ndarray of float64, shape (h,), or None
        Held-out rows.
    """

    seed: int
    device: torch.device
    encoder: Encoder
    labels: NDArray[np.int64]
    n_labels: int
    rows: sp.csr_array
    y: sp.csr_array
    sample_weight: NDArray[np.float64]
    texts: sp.csr_array
    excluded: sp.csr_array | None
    frequency: NDArray[np.float64]
    unseen: NDArray[np.bool_]
    given: sp.csr_array | None
    held_rows: sp.csr_array | None
    held_y: sp.csr_array | None
    held_weight: NDArray[np.float64] | None

    @classmethod
    def of(cls, fit: NeuralFit, encoder: Encoder, predict_unseen: bool) -> Problem:
        """Return the problem of a training with an encoder that is not fitted yet.

        Labels without training rows take part on request, and if they have a text.
        """
        data, held_out = fit.data, fit.held_out
        encoder = fitted_encoder(encoder, fit)
        rows = normalize_rows(encoder.prepare(data.X))
        texts = prepared_labels(encoder, rows, data)
        if data.label_features is None:
            texts = keep_strongest(texts, CENTROID_WORDS)
        kept = np.diff(data.y.indptr) > 0
        if (kept & (np.diff(rows.indptr) > 0)).any():
            kept &= np.diff(rows.indptr) > 0
        y, weight = data.y[kept], data.sample_weight[kept]
        is_seen = np.bincount(y.indices, minlength=data.n_labels) > 0
        wanted = is_seen.copy()
        if predict_unseen and data.label_features is not None:
            wanted |= np.diff(texts.indptr) > 0
        labels = np.flatnonzero(wanted)
        excluded = same_text_pairs(data.X, data.label_features, data.y)
        # Not a name: those of graphs are refused.
        given = None if data.graph is None else data.graph.to_csr()  # type: ignore[union-attr]
        return cls(
            seed=fit.seed,
            device=fit.device,
            encoder=encoder,
            labels=labels,
            n_labels=data.n_labels,
            rows=rows[kept],
            y=sp.csr_array(y[:, labels]),
            sample_weight=weight,
            texts=normalize_rows(texts[labels]),
            excluded=None if excluded is None else sp.csr_array(excluded[kept][:, labels]),
            frequency=(y.T @ weight)[labels],
            unseen=~is_seen[labels],
            given=None if given is None else given[labels][:, labels],
            held_rows=None if held_out is None else normalize_rows(encoder.prepare(held_out.X)),
            held_y=None if held_out is None else sp.csr_array(held_out.y[:, labels]),
            held_weight=None if held_out is None else held_out.sample_weight,
        )

    def edges(self, walk: RandomWalk) -> sp.csr_array:
        """Return the user's edges, or the visits of a walk that leaves hubs out."""
        if self.given is not None:
            return self.given
        return walk.visits(
            without_columns(self.y, walk.hubs(self.frequency)), row_weight=self.sample_weight
        )

    def with_all_labels(self, graph: sp.csr_array | None) -> sp.csr_array:
        """Return a graph over the labels that can be predicted as one over all labels."""
        if graph is None:
            return sp.csr_array((self.n_labels, self.n_labels), dtype=np.float32)
        edges = graph.tocoo()
        ends = self.labels[edges.row], self.labels[edges.col]
        return sp.csr_array((edges.data, ends), shape=(self.n_labels, self.n_labels))


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a stage predicts: labels, or clusters of labels.

    Attributes
    ----------
    membership : csr_array of ones, shape (m, L)
        The labels of every output.
    texts : csr_array of shape (m, V)
        Prepared texts.
    hops : list of csr_array, shape (m, m)
        The normalised graph and its powers; empty without a graph.
    """

    membership: sp.csr_array
    texts: sp.csr_array
    hops: list[sp.csr_array]

    @property
    def graph(self) -> sp.csr_array | None:
        """The normalised graph."""
        return self.hops[0] if self.hops else None

    @classmethod
    def labels(cls, texts: sp.csr_array, graph: sp.csr_array | None, n_hops: int) -> Outputs:
        """Return the labels themselves, with a graph that is not normalised."""
        own = sp.eye_array(texts.shape[0], format="csr", dtype=np.float32)
        return cls(own, texts, hops(graph, n_hops))


def text_vectors(encoder: Encoder, rows: sp.csr_array) -> NDArray[np.float32]:
    """Return ``E^T x`` of prepared rows, shape (n, d), not normalised."""
    out = np.empty((rows.shape[0], encoder.dim_), dtype=np.float32)
    return encoder.encode(rows, head=lambda vectors: vectors, out=out)
