"""An index over labels: clusters, and weighted edges from clusters to labels.

    s_c(x)  = min(1, gain * softmax_c(W_c . x + b_c))
    path(l) = max over the best clusters c that store l of  s_c(x) * A_cl

A tree is the special case in which every label has one edge, of weight 1.

Source: ELIAS (NeurIPS 2022).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import softmax

from skxc.utils._loaded import check_ids, check_number, sizes_of
from skxc.utils._record import Record
from skxc.utils._sparse import TopK, top_k

# Edges of at least this weight count as being at their cap.
SATURATED = 0.999


@dataclass(frozen=True, eq=False, repr=False)
class LabelIndex(Record):
    """Which labels live in which clusters, and how queries find clusters; immutable.

    Attributes
    ----------
    cluster_weights : ndarray of float32, shape (C, d)
        W: what a query vector is multiplied with.
    cluster_bias : ndarray of float32, shape (C,)
        b.
    edge_labels : ndarray of int32, shape (C, n_edges)
        Labels of every cluster; -1 behind the last one.
    edge_weights : ndarray of float32, shape (C, n_edges)
        A: weights between 0 and 1.
    gain : float
        About how many clusters can be fully on for one query; alpha in the paper.
    beam_width : int
        Clusters that a search follows; b in the paper.
    shortlist_size : int
        Labels that a search keeps; K in the paper.
    n_labels : int
        Labels are numbered from 0 to ``n_labels - 1``; some may have no edge.
    label_names : list of str or None
        Names, for those who look into the index.

    Examples
    --------
    >>> import numpy as np
    >>> index = LabelIndex(
    ...     cluster_weights=np.eye(2, dtype=np.float32),
    ...     cluster_bias=np.zeros(2, dtype=np.float32),
    ...     edge_labels=np.array([[0, 1], [1, 2]], dtype=np.int32),
    ...     edge_weights=np.array([[1.0, 0.5], [0.8, 0.2]], dtype=np.float32),
    ...     n_labels=3,
    ...     label_names=["red", "orange", "yellow"],
    ... )
    >>> index.clusters_of("orange")
    [(1, 0.8), (0, 0.5)]
    >>> index.shared_labels()
    ['orange']
    """

    cluster_weights: NDArray[np.float32]
    cluster_bias: NDArray[np.float32]
    edge_labels: NDArray[np.int32]
    edge_weights: NDArray[np.float32]
    n_labels: int
    gain: float = 1.0
    beam_width: int = 1
    shortlist_size: int = 100
    label_names: list[str] | None = field(default=None)

    def __repr__(self) -> str:
        return (
            f"LabelIndex({self.n_labels} labels, {self.n_clusters} clusters, {self.n_edges} edges)"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> LabelIndex:
        return self

    def _check_loaded(self) -> None:
        sizes_of(
            self,
            cluster_weights="C d",
            cluster_bias="C",
            edge_labels="C E",
            edge_weights="C E",
            label_names=str(self.n_labels),
        )
        check_ids("edge_labels", self.edge_labels, self.n_labels, first=-1)
        check_number("beam_width", self.beam_width, 1)
        check_number("shortlist_size", self.shortlist_size, 1)
        # Every label with an edge has a place in a table, whose size n_labels tells alone.
        check_number("n_labels", self.n_labels, 1, np.iinfo(np.int32).max)

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(self.edge_labels)

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return int(np.count_nonzero(self.edge_labels >= 0))

    # ---- search

    def cluster_scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return s, shape (n, C), for query vectors of shape (n, d)."""
        logits = queries @ self.cluster_weights.T + self.cluster_bias
        return np.minimum(np.float32(self.gain) * softmax(logits, axis=1), np.float32(1))

    def beam(self, queries: NDArray[np.float32], width: int | None = None) -> TopK:
        """Return the best clusters of every query and their scores, best first.

        Parameters
        ----------
        queries : ndarray of float32, shape (n, d)
        width : int or None, default=None
            None: `beam_width`.

        Returns
        -------
        clusters : ndarray of int32, shape (n, b)
        scores : ndarray of float32, shape (n, b)
        """
        width = self.beam_width if width is None else width
        return top_k(self.cluster_scores(queries), min(width, self.n_clusters))

    def shortlist(
        self,
        queries: NDArray[np.float32],
        size: int | None = None,
        *,
        beam_width: int | None = None,
    ) -> TopK:
        """Return the labels with the best paths of every query, in no particular order.

        Parameters
        ----------
        queries : ndarray of float32, shape (n, d)
        size : int or None, default=None
            Labels per query; None: `shortlist_size`.
        beam_width : int or None, default=None
            None: the index's own.

        Returns
        -------
        labels : ndarray of int32, shape (n, size)
            None twice in a row; -1 where the beam has no more.
        paths : ndarray of float32, shape (n, size)
            Between 0 and 1; 0 where padded.
        """
        clusters, scores = self.beam(queries, beam_width)
        return self.follow(clusters, scores, self.shortlist_size if size is None else size)

    def follow(self, clusters: NDArray, scores: NDArray[np.float32], size: int) -> TopK:
        """Return the labels with the best paths from given clusters; see `shortlist`."""
        from skxc.utils._shortlist import follow_beams

        found = follow_beams(
            clusters, scores, self.edge_labels, self.edge_weights, self.n_labels, size
        )
        labels, codes = found.labels, found.codes
        place, edge = np.divmod(codes, self.edge_labels.shape[1])
        cluster = np.take_along_axis(clusters, place, axis=1)
        paths = np.take_along_axis(scores, place, axis=1) * self.edge_weights[cluster, edge]
        return labels, np.where(labels >= 0, paths, np.float32(0))

    def rank(
        self,
        queries: NDArray[np.float32],
        label_weights: NDArray[np.float32],
        label_bias: NDArray[np.float32],
        k: int,
        *,
        size: int | None = None,
        beam_width: int | None = None,
    ) -> TopK:
        """Return the k best labels of the shortlist by log(path * sigmoid(w_l . x + b_l)).

        Parameters
        ----------
        queries : ndarray of float32, shape (n, d)
        label_weights : ndarray of float32, shape (n_labels, d)
        label_bias : ndarray of float32, shape (n_labels,)
        k : int
        size, beam_width : int or None, default=None
            See `shortlist`.

        Returns
        -------
        labels : ndarray of int32, shape (n, k)
            Best first, ties to the lower id; -1 where the shortlist has no more.
        scores : ndarray of float32, shape (n, k)
            -inf where padded.
        """
        from skxc.utils._shortlist import pair_products

        labels, paths = self.shortlist(queries, size, beam_width=beam_width)
        logits = pair_products(np.ascontiguousarray(queries), label_weights, labels)
        logits += label_bias[labels]
        scores = _log_score(paths, logits)
        return _best_first(labels, np.where(labels >= 0, scores, -np.inf), k)

    def score_pairs(
        self,
        queries: NDArray[np.float32],
        label_weights: NDArray[np.float32],
        label_bias: NDArray[np.float32],
        rows: NDArray[np.integer],
        labels: NDArray[np.integer],
    ) -> NDArray[np.float32]:
        """Return the scores of `rank` for pairs, as if all clusters were followed.

        Parameters
        ----------
        queries, label_weights, label_bias
            As in `rank`.
        rows, labels : ndarray of int, shape (e,)

        Returns
        -------
        ndarray of float32, shape (e,)
            -inf for labels without an edge.
        """
        from skxc.utils._shortlist import pair_products

        edges = self._edges_of_labels
        counts = np.diff(edges.indptr)[labels]
        owner = np.repeat(np.arange(len(labels)), counts)
        place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        edge = edges.indptr[labels][owner] + place
        paths = self.cluster_scores(queries)[rows[owner], edges.indices[edge]] * edges.data[edge]
        best = np.zeros(len(labels), dtype=np.float32)
        np.maximum.at(best, owner, paths)
        products = pair_products(queries[rows], label_weights, labels.astype(np.int32)[:, None])
        return np.where(counts > 0, _log_score(best, products[:, 0] + label_bias[labels]), -np.inf)

    @cached_property
    def _edges_of_labels(self) -> sp.csr_array:
        """A by labels, shape (n_labels, C)."""
        return sp.csr_array(self.to_csr().T)

    def search(self, queries: NDArray[np.float32], k: int) -> TopK:
        """Return the k labels with the best paths, best first: candidates for another model.

        Parameters
        ----------
        queries : ndarray of float32, shape (n, d)
            What ``transform`` of the estimator returns that learned the index.
        k : int

        Returns
        -------
        labels : ndarray of int32, shape (n, k)
            Ties to the lower id; -1 where the beam has no more.
        paths : ndarray of float32, shape (n, k)
            -inf where padded.
        """
        labels, paths = self.shortlist(queries, k)
        paths = np.where(labels >= 0, paths, np.float32(-np.inf))
        return _best_first(labels, paths, k)

    # ---- inspection

    def to_csr(self) -> sp.csr_array:
        """Return A as CSR of shape (C, n_labels)."""
        stored = self.edge_labels >= 0
        indptr = np.concatenate([[0], np.cumsum(stored.sum(axis=1))])
        matrix = sp.csr_array(
            (self.edge_weights[stored], self.edge_labels[stored], indptr),
            shape=(self.n_clusters, self.n_labels),
        )
        matrix.sort_indices()
        return matrix

    def parents(self) -> NDArray[np.int64]:
        """Return the cluster with the heaviest edge of every label, -1 for labels without any."""
        from skxc.utils._shortlist import heaviest_clusters

        return heaviest_clusters(self.edge_labels, self.edge_weights, self.n_labels)

    def clusters_of(self, label: int | str) -> list[tuple[int, float]]:
        """Return (cluster, weight) of a label, given by number or name, heaviest first."""
        cluster, edge = np.nonzero(self.edge_labels == self._number(label))
        weight = self.edge_weights[cluster, edge]
        order = np.argsort(-weight, kind="stable")
        return [(int(cluster[i]), round(float(weight[i]), 4)) for i in order]

    def labels_of(self, cluster: int, k: int = 10) -> list[tuple[Any, float]]:
        """Return (label, weight) of the k heaviest edges of a cluster; names where there are any.

        Parameters
        ----------
        cluster : int
        k : int, default=10
        """
        labels = self.edge_labels[cluster]
        n_stored = int(np.count_nonzero(labels >= 0))
        order = np.argsort(-self.edge_weights[cluster, :n_stored], kind="stable")[:k]
        weights = self.edge_weights[cluster, order]
        return list(
            zip(self._called(labels[order]), weights.astype(float).round(4).tolist(), strict=True)
        )

    def shared_labels(self, min_weight: float = 0.1) -> list[Any]:
        """Return the labels that live in several clusters; names where there are any.

        Parameters
        ----------
        min_weight : float, default=0.1
            Edges below this do not count.

        Returns
        -------
        list
            Those with most clusters first, ties to the lower id.
        """
        heavy = (self.edge_labels >= 0) & (self.edge_weights >= min_weight)
        count = np.bincount(self.edge_labels[heavy], minlength=self.n_labels)
        order = np.argsort(-count, kind="stable")
        return self._called(order[count[order] > 1])

    def coverage(self, label_frequency: NDArray) -> float:
        """Return the share of the labels with training rows that have an edge.

        Parameters
        ----------
        label_frequency : ndarray of shape (n_labels,)
            Training rows of every label.
        """
        trained = np.flatnonzero(label_frequency)
        if not len(trained):
            return 1.0
        return float(np.isin(trained, self.edge_labels).mean())

    def saturated_share(self) -> float:
        """Return the share of edges at their cap, which learn nothing more if the cap is hard."""
        stored = self.edge_weights[self.edge_labels >= 0]
        return float((stored >= SATURATED).mean()) if stored.size else 0.0

    def _number(self, label: int | str) -> int:
        if not isinstance(label, str):
            return int(label)
        if self.label_names is None or label not in self.label_names:
            raise ValueError(
                f"`label` must be a number or the name of a label, but {label!r} is no name here. "
                "Fit with named labels, for example LabelTexts(texts, names)."
            )
        return self.label_names.index(label)

    def _called(self, labels: NDArray[np.integer]) -> list[Any]:
        if self.label_names is None:
            return labels.tolist()
        return [self.label_names[label] for label in labels]


def _log_score(paths: NDArray[np.float32], logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return log(path * sigmoid(logit))."""
    smallest = np.finfo(np.float32).tiny
    return np.log(np.maximum(paths, smallest)) - np.logaddexp(0, -logits)


def _best_first(labels: NDArray[np.integer], scores: NDArray[np.float32], k: int) -> TopK:
    """Return the k best entries of padded lists, ties to the lower label."""
    missing = ((0, 0), (0, max(0, k - labels.shape[1])))
    labels = np.pad(labels, missing, constant_values=-1)
    scores = np.pad(scores.astype(np.float32), missing, constant_values=-np.inf)
    if k < labels.shape[1]:
        # Everything at least as good as the k-th; ties at the cut are settled by the sort.
        cut = -np.partition(-scores, k - 1, axis=1)[:, k - 1, None]
        width = int((scores >= cut).sum(axis=1).max())
        kept = np.argpartition(-scores, width - 1, axis=1)[:, :width]
        labels = np.take_along_axis(labels, kept, axis=1)
        scores = np.take_along_axis(scores, kept, axis=1)
    order = np.lexsort((labels, -scores), axis=1)[:, :k]
    labels = np.take_along_axis(labels, order, axis=1)
    scores = np.take_along_axis(scores, order, axis=1)
    return np.where(np.isneginf(scores), -1, labels), scores


def tree_edges(leaf: NDArray[np.integer], labels: NDArray[np.integer], n_clusters: int) -> NDArray:
    """Return the edges of a tree: every label in its leaf alone.

    Parameters
    ----------
    leaf : ndarray of int, shape (m,)
        Cluster of every label.
    labels : ndarray of int, shape (m,)
        Numbers of the labels.
    n_clusters : int

    Returns
    -------
    ndarray of int32, shape (n_clusters, size of the largest leaf)
        Padded with -1.
    """
    sizes = np.bincount(leaf, minlength=n_clusters)
    order = np.lexsort((labels, leaf))
    place = np.arange(len(leaf)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    edges = np.full((n_clusters, max(int(sizes.max()), 1)), -1, dtype=np.int32)
    edges[leaf[order], place] = labels[order]
    return edges


def counted_edges(
    beams: sp.csr_array, y: sp.csr_array, n_edges: int, tree: NDArray[np.int32] | None = None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the heaviest edges of A' = M^T Y: how often a label's rows visit a cluster.

    Parameters
    ----------
    beams : csr_array of shape (n, C)
        M: the best cluster scores of every training row.
    y : csr_array of shape (n, L)
        Y.
    n_edges : int
        Edges per cluster; kappa in the paper.
    tree : ndarray of int32, shape (C, size), default=None
        Edges that are kept first, whatever their count; padded with -1.

    Returns
    -------
    edge_labels : ndarray of int32, shape (C, at most n_edges)
        Heaviest first (after those of the tree), ties to the lower id, padded with -1.
    counts : ndarray of float32, same shape
        A'; 0 for edges of the tree that no row visits.
    """
    counts = sp.csr_array(beams.T @ y).astype(np.float64)
    boost = 0.0
    if tree is not None:
        boost = float(counts.data.max(initial=0.0)) + 1
        cluster, edge = np.nonzero(tree >= 0)
        kept = (np.full(len(cluster), boost), (cluster, tree[cluster, edge]))
        counts = sp.csr_array(counts + sp.csr_array(kept, shape=counts.shape))
    width = min(n_edges, max(int(np.diff(counts.indptr).max(initial=0)), 1))
    cluster = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    order = np.lexsort((counts.indices, -counts.data, cluster))
    rank = np.arange(counts.nnz) - counts.indptr[cluster]
    kept_edges = rank < width
    edge_labels = np.full((counts.shape[0], width), -1, dtype=np.int32)
    values = np.zeros((counts.shape[0], width), dtype=np.float32)
    at = cluster[kept_edges], rank[kept_edges]
    edge_labels[at] = counts.indices[order][kept_edges]
    found = counts.data[order][kept_edges]
    values[at] = np.where(found >= boost, found - boost, found) if boost else found
    return edge_labels, values
