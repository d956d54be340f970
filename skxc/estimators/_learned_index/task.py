"""What a learned index trains: encoder, clusters, edges and label classifiers, end to end.

    s_c     = min(1, alpha * softmax_c(W_C phi(x)))
    path(l) = max over beam clusters c that store l of  s_c * A_cl
    p(l|x)  = path(l) * sigmoid(w_l . phi(x) + b_l)        for the labels with the best paths
    loss    = sum over these of BCE(p(l|x), y_l) + lambda * K * mean over positives of -log path(l),

which is the published loss times K, the number of labels scored. The mean counts every row as if it
had as many positives as the row of the batch that has most. In training the beam also
holds clusters of the row's positives (teacher forcing) and random ones (exploration).

Source: ELIAS (NeurIPS 2022).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from skxc._params import (
    NonNegativeFloat,
    Part,
    PositiveFloat,
    PositiveInt,
    ShareBelowOne,
    params,
)
from skxc.estimators._learned_index.edges import LearnedEdges, TreeEdges, visited_edges
from skxc.indices import IndexSizes, LabelIndex
from skxc.training import HeldOut, LabelVectors, Task, share_of_epoch
from skxc.utils._row_sparse import pair_products, send
from skxc.utils._shortlist import Shortlists, follow_beams, heaviest_clusters
from skxc.utils._sparse import pack_topk, row_ids, top_k

Ids = NDArray[np.integer]
# Clusters beyond the beam that a training step can follow.
EXTRA_CLUSTERS = 5
# Probabilities of negatives stay this far below 1.
_LARGEST = 1 - 1e-6


@params
class LabelClassifiers(Part):
    """Classifiers of the labels, and the loss that trains them with the paths to the labels.

    Parameters
    ----------
    n_scored : int or None, default=300
        Labels per row whose classifiers a training step touches: the positives that the beam
        reaches, and a sample of the others in proportion to their path scores. None: the whole
        shortlist, as published.
    path_loss_weight : float, default=0.05
        Weight of the term that pulls up the paths to the positives; lambda in the paper. Without
        it positives outside the shortlist teach nothing.
    dropout : float, default=0.3
        Share of an embedding's components that is zeroed at each training step. Labels with many
        rows want more of it, labels with few want less.
    learning_rate : float, default=5e-3
        Of classifiers and edges.
    """

    n_scored: PositiveInt | None = 300
    path_loss_weight: NonNegativeFloat = 0.05
    dropout: ShareBelowOne = 0.3
    learning_rate: PositiveFloat = 5e-3


def new_classifiers(dim: int, n_labels: int, rng: np.random.Generator) -> LabelVectors:
    """Return W_L with Kaiming-uniform weights; the last column, the bias, is zero."""
    weight = rng.uniform(-1, 1, (n_labels, dim + 1)).astype(np.float32) * np.float32(dim**-0.5)
    weight[:, -1] = 0
    return LabelVectors(weight)


class LearnedIndexTask(Task):
    """Train one stage: with the edges of a tree, or with edges that learn.

    Parameters
    ----------
    name : str
        Of the stage.
    edges : TreeEdges or LearnedEdges
    sizes : IndexSizes
    settings : LabelClassifiers
    encoder : fitted Encoder
    samples : what ``encoder.prepare`` returned
    y : csr_array of shape (n, L)
    excluded : csr_array of shape (n, L) or None
        Pairs that are no labels, but must not be negatives either.
    sample_weight : ndarray of shape (n,)
    clusters : nn.Linear
        W_C.
    table : LabelVectors
        Classifiers with their bias as last column, shape (L, d + 1).
    batches : object with ``batches(epoch, rng)``
    device : torch.device
    learning_rate : float or None
        Of the encoder; None: its own.
    cluster_rate : float
        Learning rate of W_C.
    fine_tuning : float, default=1.0
        Factor of the rates of encoder and clusters.
    precision : str, default="auto"
        See `autocast`.
    held_out : HeldOut or None, default=None
        Rows that early stopping watches.
    """

    def __init__(
        self,
        name: str,
        edges: TreeEdges | LearnedEdges,
        *,
        sizes: IndexSizes,
        settings: LabelClassifiers,
        encoder: Any,
        samples: Any,
        y: sp.csr_array,
        sample_weight: NDArray[np.floating],
        clusters: nn.Linear,
        table: LabelVectors,
        batches: Any,
        device: torch.device,
        learning_rate: float | None,
        cluster_rate: float,
        fine_tuning: float = 1.0,
        precision: str = "auto",
        held_out: HeldOut | None = None,
        excluded: sp.csr_array | None = None,
    ) -> None:
        self.name, self.sizes, self.settings = name, sizes, settings
        self.encoder, self.samples, self.y = encoder, samples, y
        self.sample_weight = sample_weight.astype(np.float32)
        self.clusters, self.edges, self.table = clusters, edges, table
        self.epoch_batches, self.device = batches, device
        self.learning_rate, self.cluster_rate = learning_rate, cluster_rate
        self.fine_tuning, self.precision = fine_tuning, precision
        self.held_out, self.excluded = held_out, excluded
        self.scale = math.sqrt(encoder.dim_)
        self.modules = nn.ModuleDict(
            {"encoder": encoder.module_, "clusters": clusters, "edges": edges, "table": table}
        ).to(device)
        self.counts = np.zeros(2, dtype=np.int64)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return encoder, clusters, classifiers and edges, each with its rate."""
        groups = [
            {**group, "lr": group["lr"] * self.fine_tuning}
            for group in self.encoder.parameter_groups(self.learning_rate)
        ]
        rate = self.cluster_rate * self.fine_tuning
        groups.append({"params": [self.clusters.weight], "lr": rate, "weight_decay": 0.01})
        groups.append({"params": [self.clusters.bias], "lr": rate})
        tables = [self.table.weight, *self.edges.parameters()]
        groups.append({"params": tables, "lr": self.settings.learning_rate, "sparse": True})
        return groups

    def refresh(self, epoch: int, rng: np.random.Generator) -> None:
        """Find the heaviest cluster of every label, as its edges are now."""
        self.parents = heaviest_clusters(self.edges.labels, self.edge_weights(), self.y.shape[1])
        self.counts[:] = 0

    def batches(self, epoch: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """Yield the row ids of each batch of an epoch."""
        return self.epoch_batches.batches(epoch, rng)

    # ---- one step

    def prepare(
        self, rows: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[Any, NDArray[np.int64], np.random.Generator]:
        """Return the texts and ids of a batch, and a stream for what the search draws."""
        texts = self.encoder.training_batch(self.samples[rows])
        return texts, rows, np.random.default_rng(int(rng.integers(2**63)))

    def backward(self, batch: tuple[Any, NDArray[np.int64], np.random.Generator]) -> Tensor:
        """Search as the model does now, and accumulate the gradients of the loss."""
        texts, rows, rng = batch
        loss = self.loss(self.encoder.unit_vectors(texts, self.precision), rows, rng)
        loss.backward()
        return loss.detach()

    def loss(self, vectors: Tensor, rows: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """Return the loss of unit vectors of rows."""
        vectors = functional.dropout(vectors * self.scale, self.settings.dropout, self.training)
        log_s = self._log_cluster_scores(vectors)
        y, scores = self.y[rows], log_s.detach().cpu().numpy()
        beam = self._training_beam(scores, y, rng)
        clusters, local = np.unique(beam, return_inverse=True)
        local = np.where(beam >= 0, local.reshape(beam.shape) - (clusters[0] < 0), -1)
        clusters = clusters[clusters >= 0]
        log_a = self.edges.log_weights(clusters).to(self.device)
        places = np.maximum(beam, 0)
        log_s = log_s.gather(1, *send([places.astype(np.int64)], self.device))
        found = follow_beams(
            local,
            np.exp(np.take_along_axis(scores, places, axis=1)),
            self.edges.labels[clusters],
            np.exp(log_a.detach().cpu().numpy()),
            self.y.shape[1],
            self._n_scored,
            y,
            None if self.settings.n_scored is None else int(rng.integers(2**31)),
        )
        if self.excluded is not None:
            found = replace(found, labels=_without_pairs(found.labels, self.excluded[rows]))
        path = _PathScores(log_s, log_a, local)
        weight = self.sample_weight[rows] / self.sample_weight[rows].sum()
        weight *= np.float32(share_of_epoch(self.sample_weight, rows))
        loss = self._label_loss(vectors, found, path, weight)
        if self.settings.path_loss_weight:
            loss = loss + self._path_loss(found, path, y, weight)
        return loss

    @property
    def _n_scored(self) -> int:
        """Largest number of labels that a step scores per row, K."""
        most = self.sizes.shortlist_size
        return most if self.settings.n_scored is None else min(self.settings.n_scored, most)

    @property
    def training(self) -> bool:
        """Whether dropout acts."""
        return self.modules.training

    def _log_cluster_scores(self, vectors: Tensor) -> Tensor:
        log_softmax = functional.log_softmax(self.clusters(vectors), dim=1)
        return (log_softmax + math.log(self.sizes.alpha)).clamp(max=0.0)

    def _training_beam(
        self, log_s: NDArray[np.float32], y: sp.csr_array, rng: np.random.Generator
    ) -> Ids:
        """Return distinct clusters per row: of the positives, the best ones, random ones.

        More than `beam_width` + 5 are sampled down without replacement, by their scores.
        """
        n_clusters = log_s.shape[1]
        width = min(self.sizes.beam_width, n_clusters)
        parents = self.parents[y.indices]
        best, _ = top_k(log_s, width)
        self._count_parents(parents, row_ids(y), best)
        beam = _without_repetitions(np.concatenate([_padded(y, parents), best], axis=1))
        beam = np.where(beam < 0, rng.integers(n_clusters, size=beam.shape), beam)
        beam = _without_repetitions(beam)
        largest = width + EXTRA_CLUSTERS
        if beam.shape[1] <= largest:
            return beam
        # The Gumbel trick: the largest perturbed scores are a sample without replacement.
        key = np.take_along_axis(log_s, np.maximum(beam, 0), axis=1) + rng.gumbel(size=beam.shape)
        key[beam < 0] = -np.inf
        chosen = np.argpartition(-key, largest - 1, axis=1)[:, :largest]
        return np.take_along_axis(beam, chosen, axis=1)

    def _count_parents(self, parents: Ids, rows: Ids, best: Ids) -> None:
        inside = (best[rows] == parents[:, None]).any(axis=1)
        self.counts += np.array([np.count_nonzero(inside), len(parents)])

    def _label_loss(
        self, vectors: Tensor, found: Shortlists, path: _PathScores, weight: NDArray[np.float32]
    ) -> Tensor:
        """Return the cross-entropy of the scored labels, summed over the labels of a row."""
        labels = found.labels
        rows, places = np.nonzero(labels >= 0)
        log_path, positive, row_weight = path(
            rows, found.codes[rows, places], found.relevant[rows, places], weight[rows]
        )
        log_p = log_path + functional.logsigmoid(self._logits(vectors, labels))
        negative = -torch.log1p(-log_p.exp().clamp(max=_LARGEST))
        cross_entropy = torch.where(positive, -log_p, negative)
        return (cross_entropy * row_weight).sum()

    def _logits(self, vectors: Tensor, labels: NDArray[np.int32]) -> Tensor:
        """Return w_l . phi(x) + b_l of every label of padded lists, row by row."""
        stored = labels >= 0
        used = np.zeros(self.y.shape[1], dtype=bool)
        used[labels[stored]] = True
        ids = np.flatnonzero(used)
        number = np.cumsum(used, dtype=np.int32) - 1
        indptr = np.concatenate([[0], np.cumsum(stored.sum(axis=1))]).astype(np.int32)
        columns = number[labels[stored]]
        pattern = sp.csr_array(
            (np.zeros(len(columns), np.float32), columns, indptr), shape=(len(labels), len(ids))
        )
        with_one = functional.pad(vectors, (0, 1), value=1.0)
        return pair_products(pattern, with_one, self.table(ids))

    def _path_loss(
        self, found: Shortlists, path: _PathScores, y: sp.csr_array, weight: NDArray[np.float32]
    ) -> Tensor:
        """Return lambda K times the mean of -log path over the positives that the beam reaches."""
        reached = found.reached
        rows = np.repeat(np.arange(y.shape[0]), np.diff(y.indptr))
        kept = reached >= 0
        if not kept.any():
            return torch.zeros((), device=self.device)
        # As published, rows are padded to the largest number of positives, with zeros.
        largest: int = np.diff(y.indptr).max()
        share = (weight[rows[kept]] / largest).astype(np.float32)
        log_path, row_share = path(rows[kept], reached[kept], share)
        mean = -(log_path * row_share).sum()
        return self.settings.path_loss_weight * found.labels.shape[1] * mean

    # ---- the present weights

    def epoch_record(self) -> dict[str, float]:
        """Return the share of positives whose heaviest cluster the model's own beam held."""
        inside, total = self.counts.tolist()
        return {"positives_in_beam": inside / max(total, 1)}

    def evaluate(self) -> float:
        """Return precision@1 on the held-out rows."""
        held_out = cast(HeldOut, self.held_out)
        index, (weights, bias) = self.label_index(), self.label_weights()
        queries = self.encoder.encode(held_out.samples, precision=self.precision)
        return held_out.precision(
            queries, weights, lambda vectors, labels, k: index.rank(vectors, labels, bias, k)
        )

    def label_index(self) -> LabelIndex:
        """Return clusters and edges, for unit vectors."""
        return LabelIndex(
            cluster_weights=_to_numpy(self.clusters.weight) * np.float32(self.scale),
            cluster_bias=_to_numpy(self.clusters.bias),
            edge_labels=self.edges.labels,
            edge_weights=self.edge_weights(),
            n_labels=self.y.shape[1],
            gain=self.sizes.alpha,
            beam_width=self.sizes.beam_width,
            shortlist_size=self.sizes.shortlist_size,
        )

    def visited_edges(self) -> LearnedEdges:
        """Return edges for a next stage: to the labels whose rows visit a cluster most."""
        clusters, scores = self.label_index().beam(self.sample_vectors())
        beams = pack_topk(clusters, scores, self.sizes.n_clusters)
        beams.data *= self.sample_weight[row_ids(beams)]
        return visited_edges(beams, self.y, self.edges.labels, self.sizes)

    def edge_weights(self) -> NDArray[np.float32]:
        """Return the weights of all edges, shape (C, n_edges)."""
        with torch.no_grad():
            log_weights = self.edges.log_weights(np.arange(len(self.edges.labels)))
        return log_weights.exp().cpu().numpy()

    def label_weights(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return classifiers for unit vectors, shape (L, d), and their biases, shape (L,)."""
        table = self.table.to_numpy()
        return np.ascontiguousarray(table[:, :-1] * np.float32(self.scale)), table[:, -1].copy()

    def sample_vectors(self) -> NDArray[np.float32]:
        """Return the unit vectors of all training rows."""
        return self.encoder.encode(self.samples, precision=self.precision)


class _PathScores:
    """log path of (row, code) pairs, with gradients for clusters and edges on the path alone."""

    def __init__(self, log_s: Tensor, log_a: Tensor, beam: Ids) -> None:
        self.log_s, self.log_a, self.beam = log_s, log_a, beam

    def __call__(self, rows: Ids, codes: Ids, *more: NDArray) -> list[Tensor]:
        """Return log path, and arrays of as many numbers, which go to the device together."""
        n_edges = self.log_a.shape[1]
        place, edge = np.divmod(codes, n_edges)
        from_row, from_edge = rows * self.log_s.shape[1] + place, self.beam[rows, place] * n_edges
        places = [ids.astype(np.int64) for ids in (from_row, from_edge + edge)]
        in_s, in_a, *sent = send([*places, *more], self.log_s.device)
        return [self.log_s.flatten()[in_s] + self.log_a.flatten()[in_a], *sent]


def _without_pairs(labels: NDArray[np.int32], pairs: sp.csr_array) -> NDArray[np.int32]:
    """Return padded lists of labels with those of `pairs` replaced by -1."""
    for own in _padded(pairs, pairs.indices).T:
        labels = np.where(labels == own[:, None], np.int32(-1), labels)
    return labels


def _padded(matrix: sp.csr_array, values: Ids) -> Ids:
    """Return one value per stored entry, row by row, padded with -1."""
    counts = np.diff(matrix.indptr)
    padded = np.full((len(counts), int(counts.max(initial=0))), -1, dtype=np.int64)
    place = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], counts)
    padded[row_ids(matrix), place] = values
    return padded


def _without_repetitions(beam: Ids) -> Ids:
    """Return the beam with later copies of a cluster in a row replaced by -1."""
    order = np.argsort(beam, axis=1, kind="stable")
    ordered = np.take_along_axis(beam, order, axis=1)
    repeated = np.zeros_like(ordered, dtype=bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    cleaned = beam.copy()
    np.put_along_axis(cleaned, order, np.where(repeated, -1, ordered), axis=1)
    return cleaned


def _to_numpy(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().cpu().numpy().copy()
