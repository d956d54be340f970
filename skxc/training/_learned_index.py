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
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from skxc.training._average import WeightAverage
from skxc.training._edges import LearnedEdges, TreeEdges
from skxc.training._label_table import LabelVectors
from skxc.training._loop import Task
from skxc.utils._row_sparse import as_tensor, pair_products
from skxc.utils._shortlist import Shortlists, follow_beams, heaviest_clusters
from skxc.utils._sparse import top_k

Ids = NDArray[np.integer]
# Clusters beyond the beam that a training step can follow.
EXTRA_CLUSTERS = 5
# Probabilities of negatives stay this far below 1.
_LARGEST = 1 - 1e-6


@dataclass(frozen=True)
class LearnedIndexSettings:
    """How a learned index is trained.

    Attributes
    ----------
    alpha : float
        Gain of the softmax over clusters.
    beam_width : int
        Best clusters that a step follows, beside those of the positives.
    n_scored : int
        Labels whose classifiers a step trains for every row, K.
    samples_labels : bool
        Whether these are the positives and a sample of the labels that the beam reaches, in
        proportion to their paths. Otherwise they are the labels with the best paths.
    path_loss_weight : float
        lambda.
    dropout : float
        Share of an embedding's components that is zeroed.
    learning_rate, cluster_rate, label_rate : float or None
        Of encoder (None: its own), of clusters, and of label classifiers and edges.
    fine_tuning : float
        Factor of the rates of encoder and clusters.
    average_from : int
        Number of epochs after which averaging of weights starts.
    precision : str
        See `autocast`.
    """

    alpha: float
    beam_width: int
    n_scored: int
    samples_labels: bool
    path_loss_weight: float
    dropout: float
    learning_rate: float | None
    cluster_rate: float
    label_rate: float
    fine_tuning: float
    average_from: int
    precision: str


def new_clusters(dim: int, n_clusters: int, rng: np.random.Generator) -> nn.Linear:
    """Return W_C with Kaiming-uniform weights and zero biases."""
    clusters = nn.Linear(dim, n_clusters, device="meta").to_empty(device="cpu")
    weight = rng.uniform(-1, 1, (n_clusters, dim)) * dim**-0.5
    with torch.no_grad():
        clusters.weight.copy_(torch.from_numpy(weight))
        clusters.bias.zero_()
    return clusters


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
    settings : LearnedIndexSettings
    encoder : fitted Encoder
    samples : what ``encoder.prepare`` returned
    y : csr_array of shape (n, L)
    sample_weight : ndarray of shape (n,)
    clusters : nn.Linear
        W_C.
    edges : TreeEdges or LearnedEdges
    table : LabelVectors
        Classifiers with their bias as last column, shape (L, d + 1).
    batches : object with ``batches(epoch, rng)``
    device : torch.device
    evaluate_model : callable, default=None
        ``evaluate_model(task)`` gives the figure that early stopping watches.
    """

    def __init__(
        self,
        name: str,
        settings: LearnedIndexSettings,
        *,
        encoder: Any,
        samples: Any,
        y: sp.csr_array,
        sample_weight: NDArray[np.floating],
        clusters: nn.Linear,
        edges: TreeEdges | LearnedEdges,
        table: LabelVectors,
        batches: Any,
        device: torch.device,
        evaluate_model: Any = None,
    ) -> None:
        self.name, self.settings = name, settings
        self.encoder, self.samples, self.y = encoder, samples, y
        self.sample_weight = sample_weight.astype(np.float32)
        self.clusters, self.edges, self.table = clusters, edges, table
        self.epoch_batches, self.device = batches, device
        self.evaluate_model = evaluate_model
        self.scale = math.sqrt(encoder.dim_)
        self.modules = nn.ModuleDict(
            {"encoder": encoder.module_, "clusters": clusters, "edges": edges, "table": table}
        ).to(device)
        averaged = nn.ModuleDict(
            {key: self.modules[key] for key in ("encoder", "clusters", "table")}
        )
        self.average = WeightAverage(averaged)
        self.modules["average"] = self.average.to(device)
        self.counts = np.zeros(2, dtype=np.int64)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return encoder, clusters, classifiers and edges, each with its rate."""
        settings = self.settings
        groups = [
            {**group, "lr": group["lr"] * settings.fine_tuning}
            for group in self.encoder.parameter_groups(settings.learning_rate)
        ]
        rate = settings.cluster_rate * settings.fine_tuning
        groups.append({"params": [self.clusters.weight], "lr": rate, "weight_decay": 0.01})
        groups.append({"params": [self.clusters.bias], "lr": rate})
        tables = [self.table.weight, *self.edges.parameters()]
        groups.append({"params": tables, "lr": settings.label_rate, "sparse": True})
        return groups

    def refresh(self, epoch: int, rng: np.random.Generator) -> None:
        """Average the weights of the epoch before, and find the heaviest cluster of every label."""
        if epoch > self.settings.average_from:
            self.average.add()
        self.parents = heaviest_clusters(self.edges.labels, self.edge_weights(), self.y.shape[1])
        self.counts[:] = 0

    def batches(self, epoch: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """Yield the row ids of each batch of an epoch."""
        return self.epoch_batches.batches(epoch, rng)

    # ---- one step

    def backward(self, rows: NDArray[np.int64], rng: np.random.Generator) -> float:
        """Search as the model does now, and accumulate the gradients of the loss."""
        vectors = self.encoder.unit_vectors(self.samples[rows], self.settings.precision)
        loss = self.loss(vectors, rows, rng)
        loss.backward()
        return float(loss.detach())

    def loss(self, vectors: Tensor, rows: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """Return the loss of unit vectors of rows."""
        vectors = functional.dropout(vectors * self.scale, self.settings.dropout, self.training)
        log_s = self._log_cluster_scores(vectors)
        y = self.y[rows]
        beam = self._training_beam(log_s.detach().cpu().numpy(), y, rng)
        clusters, local = np.unique(beam, return_inverse=True)
        local = np.where(beam >= 0, local.reshape(beam.shape) - (clusters[0] < 0), -1)
        clusters = clusters[clusters >= 0]
        log_a = self.edges.log_weights(clusters).to(self.device)
        log_s = log_s.gather(1, as_tensor(np.maximum(beam, 0), np.int64).to(self.device))
        found = follow_beams(
            local,
            log_s.detach().exp().cpu().numpy(),
            self.edges.labels[clusters],
            log_a.detach().exp().cpu().numpy(),
            self.y.shape[1],
            self.settings.n_scored,
            y,
            int(rng.integers(2**31)) if self.settings.samples_labels else None,
        )
        path = _PathScores(log_s, log_a, local)
        weight = self.sample_weight[rows] / self.sample_weight[rows].sum()
        loss = self._label_loss(vectors, found, path, weight)
        if self.settings.path_loss_weight:
            loss = loss + self._path_loss(found, path, y, weight)
        return loss

    @property
    def training(self) -> bool:
        """Whether dropout acts."""
        return self.modules.training

    def _log_cluster_scores(self, vectors: Tensor) -> Tensor:
        log_softmax = functional.log_softmax(self.clusters(vectors), dim=1)
        return (log_softmax + math.log(self.settings.alpha)).clamp(max=0.0)

    def _training_beam(
        self, log_s: NDArray[np.float32], y: sp.csr_array, rng: np.random.Generator
    ) -> Ids:
        """Return distinct clusters per row: of the positives, the best ones, random ones.

        More than `beam_width` + 5 are sampled down without replacement, by their scores.
        """
        settings, n_clusters = self.settings, log_s.shape[1]
        width = min(settings.beam_width, n_clusters)
        parents = self.parents[y.indices]
        best, _ = top_k(log_s, width)
        counts = np.diff(y.indptr)
        forced = np.full((len(log_s), int(counts.max(initial=0))), -1, dtype=np.int64)
        place = np.arange(y.nnz) - np.repeat(y.indptr[:-1], counts)
        forced[np.repeat(np.arange(len(log_s)), counts), place] = parents
        self._count_parents(parents, np.repeat(np.arange(len(log_s)), counts), best)
        beam = _without_repetitions(np.concatenate([forced, best], axis=1))
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
        positive = torch.from_numpy(found.relevant[rows, places]).to(self.device)
        log_p = path(rows, found.codes[rows, places]) + functional.logsigmoid(
            self._logits(vectors, labels)
        )
        negative = -torch.log1p(-log_p.exp().clamp(max=_LARGEST))
        cross_entropy = torch.where(positive, -log_p, negative)
        return (cross_entropy * torch.from_numpy(weight[rows]).to(self.device)).sum()

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
        mean = -(path(rows[kept], reached[kept]) * torch.from_numpy(share).to(self.device)).sum()
        return self.settings.path_loss_weight * found.labels.shape[1] * mean

    # ---- what the state amounts to

    def epoch_record(self) -> dict[str, float]:
        """Return the share of positives whose heaviest cluster the model's own beam held."""
        inside, total = self.counts.tolist()
        return {"positives_in_beam": inside / max(total, 1)}

    def evaluate(self) -> float:
        """Return the held-out figure, of averaged weights where there are any."""
        with self.average.swapped_in():
            return self.evaluate_model(self)

    def finish(self) -> None:
        """Replace the weights by their average, if they were averaged."""
        if self.average.started:
            self.average.add()
            self.average.copy_to_module()

    def edge_weights(self) -> NDArray[np.float32]:
        """Return the weights of all edges, shape (C, n_edges)."""
        with torch.no_grad():
            log_weights = self.edges.log_weights(np.arange(len(self.edges.labels)))
        return log_weights.exp().cpu().numpy()

    def cluster_weights(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what unit vectors are multiplied with, (C, d), and the biases, (C,)."""
        weight = _to_numpy(self.clusters.weight) * np.float32(self.scale)
        return weight, _to_numpy(self.clusters.bias)

    def label_weights(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return classifiers for unit vectors, shape (L, d), and their biases, shape (L,)."""
        table = self.table.to_numpy()
        return np.ascontiguousarray(table[:, :-1] * np.float32(self.scale)), table[:, -1].copy()

    def sample_vectors(self) -> NDArray[np.float32]:
        """Return the unit vectors of all training rows."""
        return self.encoder.encode(self.samples, precision=self.settings.precision)


class _PathScores:
    """log path of (row, code) pairs, with gradients for clusters and edges on the path alone."""

    def __init__(self, log_s: Tensor, log_a: Tensor, beam: Ids) -> None:
        self.log_s, self.log_a, self.beam = log_s, log_a, beam

    def __call__(self, rows: Ids, codes: Ids) -> Tensor:
        n_edges = self.log_a.shape[1]
        place, edge = np.divmod(codes, n_edges)
        from_row = torch.from_numpy(rows * self.log_s.shape[1] + place).to(self.log_s.device)
        from_edge = torch.from_numpy(self.beam[rows, place] * n_edges + edge).to(self.log_a.device)
        return self.log_s.flatten()[from_row] + self.log_a.flatten()[from_edge]


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
