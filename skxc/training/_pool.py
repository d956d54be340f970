"""Training on pools of labels: what a batch is scored against, with complete targets.

A pool holds the batch's positives and whatever the negatives add; a label is a positive of a row by
full membership, however it got there. Sources: DEXML (ICLR 2024) and NGAME (WSDM 2023) for pools
and clustered batches, Gandalf (arXiv 2405.04545) for label texts as queries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from skxc._params import NonNegativeFloat, Part, params
from skxc.batching import Batching
from skxc.losses import Loss
from skxc.losses.base import Positives
from skxc.metrics._weighted import weighted_at_k
from skxc.negatives import Negatives, Search, membership, sample_positives
from skxc.training._loop import Task
from skxc.utils._row_sparse import send

Ids = NDArray[np.int64]


def share_of_epoch(sample_weight: NDArray[np.floating], rows: Ids) -> float:
    """Return the mean weight of a batch over that of the epoch.

    A loss is a mean over the batch; times this number, a row counts in the epoch as it weighs.
    """
    return float(sample_weight[rows].mean() / sample_weight.mean())


@dataclass
class Pool:
    """One batch: which rows are scored against which labels.

    Attributes
    ----------
    rows : ndarray of int, shape (b,)
        Samples.
    queries : ndarray of int, shape (q,)
        Labels whose texts are queries too (label-text augmentation); usually none.
    labels : ndarray of int, shape (m,)
        The pool, sorted and distinct.
    positives, ignored : ndarray of bool, shape (b + q, m)
        Targets, and cells that are neither positive nor negative.
    row_weight : ndarray of float32, shape (b + q,)
    positive_weight : ndarray of float32, shape (b + q, m), or None
    scale : float
        What the batch weighs in the epoch (see `share_of_epoch`).
    """

    rows: Ids
    queries: Ids
    labels: Ids
    positives: NDArray[np.bool_]
    ignored: NDArray[np.bool_] | None
    row_weight: NDArray[np.float32]
    positive_weight: NDArray[np.float32] | None = None
    scale: float = 1.0

    @cached_property
    def targets(self) -> list[NDArray]:
        """The fields of `Positives`, in their order, and the ignored cells where there are any."""
        mask = self.positives if self.ignored is None else self.positives & ~self.ignored
        weight = None if self.positive_weight is None else torch.from_numpy(self.positive_weight)
        cells = Positives.of_mask(torch.from_numpy(mask), torch.from_numpy(self.row_weight), weight)
        found = [tensor.numpy() for tensor in vars(cells).values()]
        return found if self.ignored is None else [*found, self.ignored]

    def sent(self, device: torch.device) -> list[Tensor]:
        """Return `targets` on a device, to which they go once."""
        if "_sent" not in vars(self):
            vars(self)["_sent"] = send(self.targets, device)
        return vars(self)["_sent"]

    def transposed(self) -> Pool:
        """Return the pool with labels in the place of rows: each is scored against the queries.

        A label without a positive query drops out of a loss, and so is no anchor (UniDEC). Labels
        weigh the same; the queries of a label weigh what they do as rows.
        """
        weight = self.row_weight[:, None]
        if self.positive_weight is not None:
            weight = weight * self.positive_weight
        weight = np.broadcast_to(weight, self.positives.shape)
        return Pool(
            rows=self.labels,
            queries=self.queries[:0],
            labels=self.rows,
            positives=np.ascontiguousarray(self.positives.T),
            ignored=None if self.ignored is None else np.ascontiguousarray(self.ignored.T),
            row_weight=np.ones(len(self.labels), dtype=np.float32),
            positive_weight=np.ascontiguousarray(weight.T),
            scale=self.scale,
        )


@dataclass
class PoolReport:
    """Sums over steps of the numbers that expose silent failures.

    Attributes
    ----------
    n_steps, n_rows : float
        Steps, and samples in them.
    pool_size, positives, masked, cells : float
        Sums of pool sizes, of positives in the pool, of masked cells and of all cells.
    n_refreshes : float
        Number of clusterings and minings.
    unmatched : float
        Sum of pool labels that are positives of no row: what mining added, unless all labels are
        in the pool.
    """

    n_steps: float = 0
    n_rows: float = 0
    pool_size: float = 0
    positives: float = 0
    masked: float = 0
    cells: float = 0
    n_refreshes: float = 0
    unmatched: float = 0

    def add(self, pool: Pool) -> None:
        """Count a pool."""
        n_rows = len(pool.rows)
        self.n_steps += 1
        self.n_rows += n_rows
        self.pool_size += len(pool.labels)
        self.positives += int(pool.positives[:n_rows].sum())
        self.masked += 0 if pool.ignored is None else int(pool.ignored[:n_rows].sum())
        self.cells += n_rows * len(pool.labels)
        self.unmatched += len(pool.labels) - int(pool.positives.any(axis=0).sum())

    def as_array(self) -> NDArray[np.float64]:
        """Return the sums as an array."""
        return np.array(list(vars(self).values()), dtype=np.float64)

    @classmethod
    def from_array(cls, array: NDArray[np.float64]) -> PoolReport:
        """Return the report of `as_array`."""
        return cls(*array.tolist())


@params
class LabelQueries(Part):
    """What a graph between labels changes about pools.

    Parameters
    ----------
    weight : float, default=0.5
        Weight of label texts as extra queries whose positives are their neighbours in the graph
        (Gandalf); 0: none.
    mask_neighbors : bool, default=True
        Whether neighbours of a row's positives are left out of its negatives.

    References
    ----------
    Gandalf (arXiv 2405.04545).
    """

    weight: NonNegativeFloat = 0.5
    mask_neighbors: bool = True


@dataclass
class PoolSettings:
    """How pools are drawn and scored; the parts of a recipe that all stages share.

    Attributes
    ----------
    loss : Loss
    negatives : Negatives
    batches : Batching
    search : callable
        Exact search, for mining and evaluation.
    graph : csr_array of shape (L, L) or None
        Label graph without diagonal.
    graph_weight : float
        Weight of label texts as queries whose positives are their neighbours; 0: none.
    mask_neighbors : bool
        Whether neighbours of a row's positives are left out of its negatives.
    excluded : csr_array of shape (n, L) or None
        Pairs that are no labels, but must not be negatives either.
    """

    loss: Loss
    negatives: Negatives
    batches: Batching
    search: Search
    graph: sp.csr_array | None = None
    graph_weight: float = 0.0
    mask_neighbors: bool = False
    excluded: sp.csr_array | None = None


@dataclass(frozen=True)
class HeldOut:
    """Rows that early stopping watches.

    Attributes
    ----------
    samples : object
        As `PoolTask.sample_vectors` takes them.
    y : csr_array of shape (n_held_out, L)
        Their labels.
    weight : ndarray of float64, shape (n_held_out,)
    own : csr_array of shape (n_held_out, L), or None
        Labels with the text of the row itself, which are no answers and no mistakes.
    """

    samples: Any
    y: sp.csr_array
    weight: NDArray[np.float64]
    own: sp.csr_array | None = None

    def precision(
        self, queries: NDArray[np.float32], labels: NDArray[np.float32], search: Search
    ) -> float:
        """Return precision@1 of a search of label vectors."""
        n_own = 0 if self.own is None else int(np.diff(self.own.indptr).max())
        found = search(queries, labels, min(1 + n_own, self.y.shape[1]))[0]
        return weighted_at_k("precision", self.y, found, 1, self.weight, self.own)


class PoolTask(Task):
    """Train vectors of samples and labels on pools; a subclass says what the vectors are.

    Parameters
    ----------
    settings : PoolSettings
    y : csr_array of shape (n, L)
        Training labels.
    sample_weight : ndarray of shape (n,)
    device : torch.device
    held_out : HeldOut or None
        For early stopping: precision@1 is watched.
    """

    #: Whether a label text as a query has its own label as a positive. Where query and label share
    #: an encoder their cosine is 1, so the label must take no part.
    own_label_is_positive = False

    def __init__(
        self,
        settings: PoolSettings,
        *,
        y: sp.csr_array,
        sample_weight: NDArray[np.floating],
        device: torch.device,
        held_out: HeldOut | None = None,
    ) -> None:
        self.settings = settings
        self.y = y
        self.sample_weight = sample_weight.astype(np.float32)
        self.device = device
        self.held_out = held_out
        self.report = PoolReport()
        settings.negatives.prepare(y, settings.excluded)

    # ---- what a subclass writes

    def sample_vectors(self, samples: Any = None) -> NDArray[np.float32]:
        """Return current unit vectors of the given samples, by default of all training rows."""
        raise NotImplementedError

    def label_vectors(self) -> NDArray[np.float32]:
        """Return the current unit vectors that labels are scored with, shape (L, d)."""
        raise NotImplementedError

    # ---- batches

    def batches(self, epoch: int, rng: np.random.Generator) -> Iterator[Ids]:
        """Yield batches of row ids."""
        return self.settings.batches.batches(epoch, rng)

    def refresh(self, epoch: int, rng: np.random.Generator) -> None:
        """Cluster and mine again where it is due, on current vectors."""
        batches, negatives = self.settings.batches, self.settings.negatives
        cluster, mine = batches.needs_refresh(epoch), negatives.needs_refresh(epoch)
        if not (cluster or mine):
            return
        samples = self.sample_vectors()
        if cluster:
            batches.refresh(samples, epoch, rng)
        if mine:
            negatives.refresh(samples, self.label_vectors(), self.settings.search)
        self.report.n_refreshes += 1

    def draw(self, rows: Ids, rng: np.random.Generator) -> Pool:
        """Return the pool of a batch with complete targets."""
        settings = self.settings
        positives = sample_positives(self.y, rows, settings.negatives.n_positives, rng)
        queries = self._draw_queries(len(rows), rng)
        if len(queries):
            near = sample_positives(settings.graph, queries, 1, rng)
            own = queries if self.own_label_is_positive else queries[:0]
            positives = np.concatenate([positives, near, own])
        labels = settings.negatives.pool(rows, positives, rng)
        targets = membership(self.y, rows, labels)
        pool = Pool(
            rows,
            queries,
            labels,
            targets,
            self._ignored(rows, labels, targets),
            self.sample_weight[rows],
            scale=share_of_epoch(self.sample_weight, rows),
        )
        if len(queries):
            pool = self._add_queries(pool)
        self.report.add(pool)
        return pool

    def _draw_queries(self, n_rows: int, rng: np.random.Generator) -> Ids:
        """Draw labels with neighbours as extra queries, L / n of them per sample."""
        graph = self.settings.graph
        if graph is None or not self.settings.graph_weight:
            return np.empty(0, dtype=np.int64)
        connected = np.flatnonzero(np.diff(graph.indptr))
        n_queries = round(n_rows * self.y.shape[1] / self.y.shape[0])
        return np.sort(rng.choice(connected, min(n_queries, n_rows, len(connected)), replace=False))

    def _ignored(
        self, rows: Ids, labels: Ids, targets: NDArray[np.bool_]
    ) -> NDArray[np.bool_] | None:
        """Return the cells that are no negatives: excluded pairs, and neighbours of positives."""
        settings, masks = self.settings, []
        if settings.excluded is not None:
            masks.append(membership(settings.excluded, rows, labels))
        if settings.graph is not None and settings.mask_neighbors:
            near = sp.csr_array(self.y[rows] @ settings.graph)
            masks.append(membership(near, np.arange(len(rows)), labels))
        masks = [mask for mask in masks if mask.any()]  # a mask costs the loss a copy of the scores
        return np.logical_or.reduce(masks) & ~targets if masks else None

    def _add_queries(self, pool: Pool) -> Pool:
        """Append rows for label texts, with neighbours as positives, weighted by the edges."""
        graph: Any = self.settings.graph
        n_rows = len(pool.rows)
        targets = membership(graph, pool.queries, pool.labels)
        own = pool.queries[:, None] == pool.labels[None, :]
        weight = np.ones((n_rows + len(own), len(pool.labels)), dtype=np.float32)
        weight[n_rows:] = graph[pool.queries][:, pool.labels].toarray()
        ignored = np.zeros_like(pool.positives) if pool.ignored is None else pool.ignored
        if self.own_label_is_positive:
            targets |= own
            weight[n_rows:][own] = 1
            own = np.zeros_like(own)
        scale = self.settings.graph_weight * pool.row_weight.mean()
        return replace(
            pool,
            positives=np.concatenate([pool.positives, targets]),
            ignored=np.concatenate([ignored, own]),
            row_weight=np.concatenate([pool.row_weight, np.full(len(own), scale, np.float32)]),
            positive_weight=weight,
        )

    # ---- loss

    def pool_loss(self, queries: Tensor, labels: Tensor, pool: Pool) -> Tensor:
        """Return the loss of unit query vectors (b + q, d) against unit label vectors (m, d)."""
        loss = self.settings.loss
        # Scaling the queries spares a pass over the scores, the largest array of a step.
        scores = loss.scaled(queries) @ labels.T
        sent = pool.sent(self.device)
        value = loss(scores, Positives(*sent[:4]), ignored=sent[4] if sent[4:] else None)
        return value if pool.scale == 1 else value * pool.scale

    # ---- evaluation and state

    def evaluate(self) -> float:
        """Return precision@1 on the held-out rows."""
        held_out = cast(HeldOut, self.held_out)
        queries = self.sample_vectors(held_out.samples)
        return held_out.precision(queries, self.label_vectors(), self.settings.search)

    def get_state(self) -> dict[str, NDArray]:
        """Return the arrays of batches, negatives and report."""
        return {
            **{f"batches/{k}": array for k, array in self.settings.batches.get_state().items()},
            **{f"negatives/{k}": array for k, array in self.settings.negatives.get_state().items()},
            "report": self.report.as_array(),
        }

    def set_state(self, state: dict[str, NDArray]) -> None:
        """Take the arrays of `get_state` back."""
        parts = (("batches/", self.settings.batches), ("negatives/", self.settings.negatives))
        for prefix, owner in parts:
            owner.set_state(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )
        self.report = PoolReport.from_array(state["report"])
