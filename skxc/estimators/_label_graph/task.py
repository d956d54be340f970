"""What ECLARE trains in each of its stages: fused classifiers against documents.

    score(l, x) = cos(w_l, x^) / temperature + offset

A step scores all its documents against one pool of outputs, and builds the classifiers of these
only: the outputs of all documents of the batch and, in the ranker, some labels of their shortlists.
In the paper surrogate and shortlister score every output at every step, and the ranker scores every
document against its own shortlist only.

The paper's score is w_l . x^. With unit vectors, the size of the token embeddings does not decide
how fast the blocks learn, and with an offset that starts at the log-odds of the mean target, the
first epochs need not push all scores down: a tenth of the steps is enough.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import logit
from torch import Tensor, nn
from torch.nn import functional

from skxc.batching import UniformBatches
from skxc.estimators._encoding import search_once
from skxc.estimators._label_graph.classifiers import Classifiers, DocumentBlock, FusedClassifiers
from skxc.estimators._label_graph.problem import Outputs, Problem, text_vectors
from skxc.graphs import keep_edges, without_diagonal
from skxc.graphs._walk import row_shares
from skxc.losses import LogitLoss
from skxc.losses.base import Positives
from skxc.negatives import membership, sample_positives
from skxc.negatives._pairs import row_entries
from skxc.negatives.base import union
from skxc.training import Task, share_of_epoch
from skxc.utils._random import stream, torch_seed
from skxc.utils._row_sparse import send
from skxc.utils._sparse import drop_pairs, normalize_rows, pair_ids

Ids = NDArray[np.int64]
# How much slower blocks and attention learn than tables.
DENSE_SHARE = 10
# Rows that the offset of the scores is fitted on.
OFFSET_ROWS = 256
# Classifiers materialised at once.
BLOCK_LABELS = 4096


@dataclass
class ScoredBatch:
    """A batch, and what it is scored against.

    Attributes
    ----------
    rows : ndarray of int64, shape (b,)
    labels : ndarray of int64, shape (m,)
        Outputs, sorted and distinct.
    encoded : what the encoder's module takes
        The rows, and below them the texts of the outputs.
    positives : ndarray of bool, shape (b, m)
    ignored : ndarray of bool, shape (b, m), or None
        Cells that are neither positive nor negative.
    targets : list of ndarray
        The fields of `Positives`, in their order.
    graph : int
        Which graph has the neighbours of the outputs.
    """

    rows: Ids
    labels: Ids
    encoded: Any
    positives: NDArray[np.bool_]
    ignored: NDArray[np.bool_] | None
    targets: list[NDArray]
    graph: int


class FusedClassifierTask(Task):
    """Train fused classifiers and a document block on one label space: of clusters, or of labels.

    Parameters
    ----------
    name : str
    problem : Problem
    outputs : Outputs
        What is predicted, L of them.
    part : Classifiers
    loss : LogitLoss
    batch_size : int
    learning_rate : float
        Of tables; blocks and attention, whose entries all labels share, learn at a tenth of it.
    continues : bool, default=True
        Whether an earlier stage has trained the encoder. If so, there are free vectors, and the
        encoder is frozen or a copy.
    n_negatives : int or None, default=None
        Candidates of a row that enter the pool of its batch at each step, beside the outputs of all
        its rows; without `candidates`, the pool is these outputs alone. None: no pools, every row
        is scored against all its candidates and nothing else.
    candidates : csr_array of shape (n, L) or None, default=None
        Stored entries, and a row's labels, are what the row is scored against; None: every output.
    """

    def __init__(
        self,
        name: str,
        problem: Problem,
        outputs: Outputs,
        part: Classifiers,
        *,
        loss: LogitLoss,
        batch_size: int,
        learning_rate: float,
        continues: bool = True,
        n_negatives: int | None = None,
        candidates: sp.csr_array | None = None,
    ) -> None:
        self.name = name
        self.encoder, self.texts = problem.encoder, outputs.texts
        start = text_vectors(self.encoder, self.texts) if continues else None
        self.graphs = outputs.graphs
        if part.fusion == "gated":
            # The own text has a component of its own.
            self.graphs = [row_shares(without_diagonal(graph)) for graph in outputs.graphs]
        elif outputs.graph is not None and start is not None:
            start = outputs.graph @ start
        self.trains_encoder = not (continues and part.freeze_embeddings)
        if continues and self.trains_encoder:
            self.encoder = copy.copy(problem.encoder)  # its module is copied with it
        self.rows = problem.rows
        self.y = sp.csr_array(problem.y @ outputs.membership.T)
        self.excluded = None
        if problem.excluded is not None:
            excluded = sp.csr_array(problem.excluded @ outputs.membership.T)
            self.excluded = drop_pairs(excluded, self.y)
        self.sample_weight = problem.sample_weight.astype(np.float32)
        # Which graph a row is trained with.
        self.graph_of_rows = problem.graph_of_rows(len(self.graphs))
        self.batch_size = batch_size
        self.device = problem.device
        self.learning_rate = learning_rate
        self.loss = loss
        self.held_out = problem.held_out_for(outputs.membership)
        self.outputs = np.arange(self.y.shape[1], dtype=np.int64)
        self.targets = None
        if candidates is not None:
            self.targets = candidate_targets(candidates, self.y, self.excluded)
        self.n_negatives = n_negatives
        if n_negatives is not None:
            marks = self.y if self.targets is None else self.targets
            self.drawn = keep_edges(marks, marks.data > 0)
            self.negatives = keep_edges(marks, marks.data < 0)
        with torch_seed(int(stream(problem.seed, name).integers(2**31))):
            self.classifiers = FusedClassifiers(
                part,
                self.encoder.dim_,
                self.y.T @ problem.sample_weight,
                graph_frequency=problem.rows_of_graphs(len(self.graphs)) @ self.y,
                start=start,
            )
            self.document = DocumentBlock(self.encoder.dim_, part.dropout)
        self.modules = nn.ModuleDict({"classifiers": self.classifiers, "document": self.document})
        if self.trains_encoder:
            self.modules["encoder"] = self.encoder.module_
        self.modules.to(self.device)
        self.neighbors: list[Tensor] = []
        self.fit_offset()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return blocks and attention, gates, the free vectors, and the encoder's groups."""
        table, gates = self.classifiers.refinement, self.classifiers.gates
        apart = {id(gates)} if table is None else {id(gates), id(table.weight)}
        dense = [
            parameter
            for module in (self.classifiers, self.document)
            for parameter in module.parameters()
            if id(parameter) not in apart
        ]
        groups: list[dict[str, Any]] = [
            {"params": dense, "lr": self.learning_rate / DENSE_SHARE},
            {"params": [gates], "lr": self.learning_rate},
        ]
        if table is not None:
            groups.append({"params": [table.weight], "lr": self.learning_rate, "sparse": True})
        if self.trains_encoder:
            groups += self.encoder.parameter_groups(self.learning_rate)
        return groups

    def refresh(self, epoch: int, rng: np.random.Generator) -> None:
        """Renew the texts of all neighbours."""
        self._encode_neighbors()

    def _encode_neighbors(self) -> None:
        texts = text_vectors(self.encoder, self.texts) if self.graphs else None
        found = [np.asarray(graph @ texts, dtype=np.float32) for graph in self.graphs]
        self.neighbors = [torch.from_numpy(near).to(self.device) for near in found]

    def batches(self, epoch: int, rng: np.random.Generator) -> Iterator[Ids]:
        """Yield batches of row ids; the rows of a batch are trained with the same graph."""
        batches = []
        for graph in np.unique(self.graph_of_rows):
            rows = np.flatnonzero(self.graph_of_rows == graph)
            cut = UniformBatches(len(rows), self.batch_size)
            batches += [rows[batch] for batch in cut.batches(epoch, rng)]
        for number in rng.permutation(len(batches)):
            yield batches[number]

    def prepare(self, rows: Ids, rng: np.random.Generator) -> ScoredBatch:
        """Return a batch, and what it is scored against."""
        return self.scored(rows, self.pool(rows, rng), int(self.graph_of_rows[rows[0]]))

    def backward(self, batch: ScoredBatch) -> Tensor:
        """Accumulate the gradients of a batch's loss."""
        ignored = [] if batch.ignored is None else [batch.ignored]
        sent = send([*batch.targets, *ignored], self.device)
        hidden = sent[4] if ignored else None
        loss = self.loss(self.scores(batch), Positives(*sent[:4]), ignored=hidden)
        if (share := share_of_epoch(self.sample_weight, batch.rows)) != 1:
            loss = loss * share
        loss.backward()
        return loss.detach()

    def pool(self, rows: Ids, rng: np.random.Generator) -> Ids | None:
        """Return the outputs that a batch is scored against, sorted; None where there is no pool.

        Few outputs are all scored, whatever the batch.
        """
        if self.n_negatives is None:
            return None
        if self.targets is None and len(self.outputs) <= len(rows):
            return self.outputs
        groups = [row_entries(self.drawn, rows)[1]]
        if self.targets is not None:
            groups.append(sample_positives(self.negatives, rows, self.n_negatives, rng))
        return union(groups)

    def scored(self, rows: Ids, pool: Ids | None = None, graph: int = 0) -> ScoredBatch:
        """Return a batch that is scored against a pool.

        Parameters
        ----------
        rows : ndarray of int, shape (b,)
        pool : ndarray of int, shape (m,), or None
            What all rows are scored against; None: their own candidates, or all outputs.
        graph : int, default=0
            Which one has the neighbours.
        """
        ignored = None
        if pool is None:
            pool = self.outputs
            if self.targets is not None:
                pool = union([row_entries(self.targets, rows)[1]])
                ignored = ~membership(self.targets, rows, pool)
        if self.excluded is not None:
            hidden = membership(self.excluded, rows, pool)
            ignored = hidden if ignored is None else ignored | hidden
        encoded = self.encoder.stack([self.rows[rows], self.texts[pool]])
        if self.encoder.module_.training:
            encoded = self.encoder.training_batch(encoded)
        positives = membership(self.y, rows, pool)
        mask = positives if ignored is None else positives & ~ignored
        targets = Positives.of_mask(
            torch.from_numpy(mask), torch.from_numpy(self.sample_weight[rows])
        )
        arrays = [tensor.numpy() for tensor in vars(targets).values()]
        return ScoredBatch(rows, pool, encoded, positives, ignored, arrays, graph)

    def scores(self, batch: ScoredBatch) -> Tensor:
        """Return the scores of a batch, shape (b, m)."""
        # Documents and labels at once: a token's vector is read, and moved, once.
        vectors = self._encode(batch.encoded)
        documents, own = vectors[: len(batch.rows)], vectors[len(batch.rows) :]
        documents = functional.normalize(self.document(documents), dim=1)
        classifiers = self._classifiers(batch.labels, own, batch.graph)
        return documents @ classifiers.T + self.classifiers.offset

    def _sides(self, labels: Ids, own: Tensor, graph: int = 0) -> list[Tensor]:
        """Return the vectors of own texts and, from one of the graphs, of neighbours' texts."""
        if not self.neighbors:
            return [own]
        return [own, self.neighbors[graph][torch.from_numpy(labels).to(own.device)]]

    def _classifiers(self, labels: Ids, own: Tensor, graph: int = 0) -> Tensor:
        """Return the classifiers ``w_l / (|w_l| temperature)`` from vectors of the own texts."""
        classifiers = self.classifiers(labels, self._sides(labels, own, graph), graph)
        return self.loss.scaled(functional.normalize(classifiers, dim=1))

    def _encode(self, prepared: sp.csr_array) -> Tensor:
        vectors = self.encoder.module_(prepared)
        return vectors if self.trains_encoder else vectors.detach()

    @torch.no_grad()
    def fit_offset(self) -> None:
        """Set the offset to where the mean probability of some rows is their mean target.

        Before training, because from an offset of 0 the first epochs do little but push all scores
        down; after it, because not every loss depends on the offset.
        """
        self._encode_neighbors()
        self.modules.eval()
        self.classifiers.offset.zero_()
        rows = np.arange(min(len(self.sample_weight), OFFSET_ROWS))
        batch = self.scored(rows)
        shown = True if batch.ignored is None else ~batch.ignored
        products = self.scores(batch).cpu().numpy().astype(np.float64)[shown].ravel()
        share = float(np.clip(batch.positives.sum() / max(len(products), 1), 1e-6, 1 - 1e-6))
        bound = float(np.abs(products).max(initial=1)) + abs(float(logit(share))) + 1

        def excess(offset: float) -> float:
            # torch's sigmoid, which is several times quicker than scipy's.
            return torch.from_numpy(products + offset).sigmoid().mean().item() - share

        offset = brentq(excess, -bound, bound)
        self.classifiers.offset.fill_(offset)

    @torch.no_grad()
    def evaluate(self) -> float:
        """Return the precision@1 of held-out rows among all outputs."""
        assert self.held_out is not None  # nothing is watched without held-out rows
        classifiers = self.classifier_weights()
        vectors = torch.from_numpy(text_vectors(self.encoder, self.held_out.samples))
        documents = self.document(vectors.to(self.device)).cpu().numpy()
        return self.held_out.precision(normalize_rows(documents), classifiers, search_once)

    @torch.no_grad()
    def classifier_weights(self) -> NDArray[np.float32]:
        """Return all classifiers, shape (L, dim)."""
        return self._blockwise(self._classifiers)

    @torch.no_grad()
    def fusion_weights(self) -> NDArray[np.float32]:
        """Return the weight of every component in every classifier, shape (L, n_components)."""
        module = self.classifiers
        return self._blockwise(
            lambda ids, own: module.weights(ids, module.components(ids, self._sides(ids, own)))
        )

    def _blockwise(self, function: Callable[[Ids, Tensor], Tensor]) -> NDArray[np.float32]:
        self._encode_neighbors()
        self.modules.eval()
        self.encoder.module_.eval()
        starts = range(0, len(self.outputs), BLOCK_LABELS)
        blocks = [self.outputs[start : start + BLOCK_LABELS] for start in starts]
        return np.concatenate(
            [function(ids, self._encode(self.texts[ids])).cpu().numpy() for ids in blocks]
        )


def candidate_targets(
    candidates: sp.csr_array, y: sp.csr_array, excluded: sp.csr_array | None = None
) -> sp.csr_array:
    """Return what every row is scored against, int8: 1 at its labels, -1 at other candidates.

    Stored entries count, whatever their value; excluded pairs are never negatives.
    """
    ones, twos = (
        sp.csr_array((np.full(x.nnz, mark, np.int8), x.indices, x.indptr), shape=x.shape)
        for x, mark in ((candidates, 1), (y, 2))
    )
    marked = sp.csr_array(ones + twos)
    marked.sort_indices()
    is_label = marked.data >= 2
    marked.data = np.where(is_label, 1, -1).astype(np.int8)
    if excluded is None:
        return marked
    return keep_edges(marked, is_label | ~np.isin(pair_ids(marked), pair_ids(excluded)))
