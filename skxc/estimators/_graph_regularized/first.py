"""The graph before the task: the encoder learns which anchors samples and labels have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from skxc.batching import UniformBatches
from skxc.estimators._dual_encoder.task import DualEncoderTask
from skxc.estimators._graph_regularized.edges import GraphTerm
from skxc.losses import Loss
from skxc.negatives import InBatch
from skxc.training import PoolSettings
from skxc.training._pool import Ids, Pool

# Anchors that a row draws into the pool of a step; all of its anchors there are right.
N_DRAWN = 4


class AnchorTask(DualEncoderTask):
    """Train the encoder of a task on edges: samples and labels are rows, anchors are the labels.

    Parameters
    ----------
    task : DualEncoderTask
        Whose encoder is trained, and that goes on with it.
    anchors : what ``encoder.prepare`` returned
    terms : list of GraphTerm
        The edges of all graphs and sides; not empty.
    loss : Loss
    size_of_batches : callable
        From the number of rows.
    """

    name = "graph"

    def __init__(
        self,
        task: DualEncoderTask,
        *,
        anchors: Any,
        terms: Sequence[GraphTerm],
        loss: Loss,
        size_of_batches: Callable[[int], int],
    ) -> None:
        n, n_labels = task.y.shape
        edges, hidden = (_stacked(terms, what, n, n_labels) for what in ("edges", "hidden"))
        weight = np.append(task.sample_weight, np.full(n_labels, task.sample_weight.mean()))
        # Rows without an edge have nothing to learn from.
        self.rows = np.flatnonzero(np.diff(edges.indptr))
        settings = PoolSettings(
            loss=loss,
            negatives=InBatch(n_positives=N_DRAWN),
            batches=UniformBatches(len(self.rows), size_of_batches(len(self.rows))),
            search=task.settings.search,
            excluded=hidden[self.rows] if hidden.nnz else None,
        )
        super().__init__(
            settings,
            encoder=task.encoder,
            samples=task.samples,
            labels=anchors,
            learning_rate=task.learning_rate,
            micro_batch_size=task.micro_batch_size,
            precision=task.precision,
            y=edges[self.rows],
            sample_weight=weight[self.rows],
            device=task.device,
        )
        self.task = task

    def batches(self, epoch: int, rng: np.random.Generator) -> Iterator[Ids]:
        """Yield batches of row ids, samples before labels."""
        return map(np.sort, super().batches(epoch, rng))

    def _parts(self, pool: Pool) -> list[tuple[Any, Ids]]:
        n, ids = self.task.y.shape[0], self.rows[pool.rows]
        parts = [(self.samples, ids[ids < n]), (self.task.labels, ids[ids >= n] - n)]
        return [part for part in parts if len(part[1])] + [(self.labels, pool.labels)]

    def evaluate(self) -> float:
        """Return what the task finds on held-out rows so far."""
        return self.task.evaluate()


def _stacked(terms: Sequence[GraphTerm], what: str, n: int, n_labels: int) -> sp.csr_array:
    """Return the pairs of all terms, labels below samples."""
    n_anchors = terms[0].edges.shape[1]
    sides = []
    for side, n_rows in (("samples", n), ("labels", n_labels)):
        total = sp.csr_array((n_rows, n_anchors), dtype=np.float32)
        for term in terms:
            pairs = getattr(term, what) if term.side == side else None
            total = total if pairs is None else total + pairs
        sides.append(total)
    stacked = sp.csr_array(sp.vstack(sides, format="csr"))
    stacked.sort_indices()
    return stacked
