"""From training data to what the stages of ECLARE work on, and what they predict."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from skxc.encoders import Encoder
from skxc.estimators._encoding import fitted_encoder, prepared_labels, watched
from skxc.estimators._neural import NeuralFit
from skxc.graphs import RandomWalk, keep_strongest, normalize_degrees, without_columns
from skxc.training import HeldOut
from skxc.utils._same_text import same_text_pairs
from skxc.utils._sparse import normalize_rows

# Heaviest words of a label's training rows that describe it where it has no text of its own.
CENTROID_WORDS = 1000
# Parts of the rows; each is trained with the graph of the others.
N_PARTS = 2


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
    held_out : HeldOut or None
        Prepared rows that were held out.
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
    held_out: HeldOut | None

    @classmethod
    def of(cls, fit: NeuralFit, encoder: Encoder, *, has_unseen: bool) -> Problem:
        """Return the problem of a training with an encoder that is not fitted yet.

        Labels without training rows take part on request, and if they have a text.
        """
        data, encoder = fit.data, fitted_encoder(encoder, fit)
        held_out = watched(fit.held_out, lambda X: normalize_rows(encoder.prepare(X)))
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
        if has_unseen and data.label_features is not None:
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
            held_out=None if held_out is None else replace(held_out, y=held_out.y[:, labels]),
        )

    @property
    def identity(self) -> sp.csr_array:
        """Every label as the only member of its group."""
        return sp.eye_array(len(self.labels), format="csr", dtype=np.float32)

    def held_out_for(self, membership: sp.csr_array) -> HeldOut | None:
        """Return the held-out rows as rows of the labels of groups, (m, L)."""
        if self.held_out is None:
            return None
        truth = sp.csr_array(self.held_out.y @ membership.T)
        truth.data[:] = 1
        return replace(self.held_out, y=truth, own=None)

    def edges(self, walk: RandomWalk, *, apart: bool) -> list[sp.csr_array]:
        """Return the user's edges; or the visits of a walk that leaves hubs out.

        Then, with `apart`, visits of the walks that do without one part of the rows each: edges
        that rest on a row make the graph look better there than it is for other rows.
        """
        if self.given is not None:
            return [self.given]
        y, weight = without_columns(self.y, walk.hubs(self.frequency)), self.sample_weight
        n_graphs = 1 + N_PARTS if apart and len(weight) >= N_PARTS else 1
        rows = [slice(None), *(self.graph_of_rows(n_graphs) != part for part in range(1, n_graphs))]
        return [walk.visits(y[some], row_weight=weight[some]) for some in rows]

    def graph_of_rows(self, n_graphs: int) -> NDArray[np.int64]:
        """Return which graph each row is trained with: one that does without it, if there is."""
        rows = np.arange(len(self.sample_weight))
        return rows % (n_graphs - 1) + 1 if n_graphs > 1 else 0 * rows

    def rows_of_graphs(self, n_graphs: int) -> NDArray[np.float64]:
        """Return the weights with which rows take part in each graph, shape (n_graphs, n).

        The first graph has all rows, but counts as one of the others, which training knows.
        """
        numbers = np.arange(n_graphs)[:, None]
        share = (self.graph_of_rows(n_graphs) != numbers).astype(np.float64)
        share[:1] = 1 if n_graphs < 2 else 1 - 1 / (n_graphs - 1)
        return share * self.sample_weight

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
    graphs : list of csr_array, shape (m, m)
        Normalised: that of all rows, and those that each part of the rows is trained with. Empty
        without a graph.
    """

    membership: sp.csr_array
    texts: sp.csr_array
    graphs: list[sp.csr_array]

    @classmethod
    def of(
        cls, membership: sp.csr_array, texts: sp.csr_array, graphs: list[sp.csr_array]
    ) -> Outputs:
        """Return outputs with graphs that are not normalised."""
        return cls(membership, texts, [normalize_degrees(graph) for graph in graphs])

    @property
    def graph(self) -> sp.csr_array | None:
        """The graph of all rows."""
        return self.graphs[0] if self.graphs else None


def text_vectors(encoder: Encoder, rows: sp.csr_array) -> NDArray[np.float32]:
    """Return ``E^T x`` of prepared rows, shape (n, d), not normalised."""
    out = np.empty((rows.shape[0], encoder.dim_), dtype=np.float32)
    return encoder.encode(rows, head=lambda vectors: vectors, out=out)
