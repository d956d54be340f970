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
from scipy.special import expit, logit
from torch import Tensor, nn
from torch.nn import functional

from skxc.batching import UniformBatches
from skxc.estimators._label_graph.classifiers import (
    Classifiers,
    DocumentBlock,
    FusedClassifiers,
    GatheredTexts,
    TextComponents,
)
from skxc.estimators._label_graph.fusion import NAMES, Components
from skxc.estimators._label_graph.problem import Outputs, Problem, text_vectors
from skxc.graphs import keep_edges
from skxc.losses import LogitLoss
from skxc.losses.base import Positives
from skxc.negatives import membership, sample_positives
from skxc.negatives._pairs import row_entries
from skxc.negatives.base import union
from skxc.training import Task, share_of_epoch
from skxc.utils._random import stream, torch_seed
from skxc.utils._row_sparse import send
from skxc.utils._sparse import drop_pairs, pair_ids

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
    encoded : what the encoder's module takes
        Of the rows, and of the texts below them.
    labels : ndarray of int64
        Sorted and distinct.
    texts : GatheredTexts
        Of the labels.
    cells : ndarray of int64, shape (b, m), or None
        Places among the labels of what each row is scored against; None: all labels.
    positives, ignored : ndarray of bool, shape (b, m)
        `ignored` may be None.
    targets : list of ndarray
        The fields of `Positives`, in their order.
    """

    rows: Ids
    encoded: Any
    labels: Ids
    texts: GatheredTexts
    cells: Ids | None
    positives: NDArray[np.bool_]
    ignored: NDArray[np.bool_] | None
    targets: list[NDArray]


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
    held_out : callable or None, default=None
        Returns the figure that early stopping watches, from this task.
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
        held_out: Callable[[FusedClassifierTask], float] | None = None,
    ) -> None:
        self.name = name
        self.encoder, start = problem.encoder, None
        if continues and part.refinement:
            own = text_vectors(self.encoder, outputs.texts)
            start = NAMES[part.fusion].start(own, outputs.hops)
        self.trains_encoder = not (continues and part.freeze_embeddings)
        if continues and self.trains_encoder:
            self.encoder = copy.copy(problem.encoder)
            self.encoder.module_ = copy.deepcopy(problem.encoder.module_)
        self.rows = problem.rows
        self.y = sp.csr_array(problem.y @ outputs.membership.T)
        self.excluded = None
        if problem.excluded is not None:
            excluded = sp.csr_array(problem.excluded @ outputs.membership.T)
            self.excluded = drop_pairs(excluded, self.y)
        self.sample_weight = problem.sample_weight.astype(np.float32)
        self.row_batches = UniformBatches(len(self.sample_weight), batch_size)
        self.device = problem.device
        self.learning_rate = learning_rate
        self.loss = loss
        self.held_out = held_out
        self.outputs = np.arange(self.y.shape[1], dtype=np.int64)
        self.targets = None
        if candidates is not None:
            self.targets = candidate_targets(candidates, self.y, self.excluded)
        self.n_negatives = n_negatives
        if n_negatives is not None:
            marks = self.y if self.targets is None else self.targets
            self.drawn = keep_edges(marks, marks.data > 0)
            self.negatives = keep_edges(marks, marks.data < 0)
        self.texts = TextComponents(self._encode, outputs.texts, outputs.hops)
        components = Components(
            dim=self.encoder.dim_,
            n_hops=len(outputs.hops),
            has_free_vectors=start is not None,
            frequency=self.y.T @ problem.sample_weight,
            dropout=part.dropout,
        )
        with torch_seed(int(stream(problem.seed, name).integers(2**31))):
            self.classifiers = FusedClassifiers(components, part.fusion, start)
            self.document = DocumentBlock(self.encoder.dim_, part.dropout)
        self.modules = nn.ModuleDict({"classifiers": self.classifiers, "document": self.document})
        if self.trains_encoder:
            self.modules["encoder"] = self.encoder.module_
        self.modules.to(self.device)
        self.fit_offset()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return blocks and fusion, the free vectors (row-sparse), and the encoder's groups."""
        table = self.classifiers.refinement
        free = [] if table is None else [table.weight]
        dense = [
            parameter
            for module in (self.classifiers, self.document)
            for parameter in module.parameters()
            if all(parameter is not vector for vector in free)
        ]
        groups: list[dict[str, Any]] = [{"params": dense, "lr": self.learning_rate / DENSE_SHARE}]
        if free:
            groups.append({"params": free, "lr": self.learning_rate, "sparse": True})
        if self.trains_encoder:
            groups += self.encoder.parameter_groups(self.learning_rate)
        return groups

    def batches(self, epoch: int, rng: np.random.Generator) -> Iterator[Ids]:
        """Yield batches of row ids."""
        return self.row_batches.batches(epoch, rng)

    def prepare(self, rows: Ids, rng: np.random.Generator) -> ScoredBatch:
        """Return a batch, and what it is scored against."""
        return self._scored(rows, self.pool(rows, rng))

    def backward(self, batch: ScoredBatch) -> Tensor:
        """Accumulate the gradients of a batch's loss."""
        ignored = [] if batch.ignored is None else [batch.ignored]
        sent = send([*batch.targets, *ignored], self.device)
        hidden = sent[4] if ignored else None
        loss = self.loss(self._scores(batch), Positives(*sent[:4]), ignored=hidden)
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

    def batch_scores(
        self, rows: Ids, pool: Ids | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return scores, positives and ignored cells of a batch, each of shape (b, m).

        Parameters
        ----------
        rows : ndarray of int, shape (b,)
        pool : ndarray of int, shape (m,), or None
            What all rows are scored against; None: their candidates, or all outputs.
        """
        batch = self._scored(rows, pool)
        hidden = None if batch.ignored is None else torch.from_numpy(batch.ignored).to(self.device)
        return self._scores(batch), torch.from_numpy(batch.positives).to(self.device), hidden

    def _scored(self, rows: Ids, pool: Ids | None) -> ScoredBatch:
        labels, cells, positives, ignored = self._cells(rows, pool)
        mask = positives if ignored is None else positives & ~ignored
        weight = torch.from_numpy(self.sample_weight[rows])
        targets = Positives.of_mask(torch.from_numpy(mask), weight)
        texts = self.texts.gather(labels)
        encoded = self.encoder.stack([self.rows[rows], texts.rows])
        if self.encoder.module_.training:
            encoded = self.encoder.training_batch(encoded)
        return ScoredBatch(
            rows=rows,
            encoded=encoded,
            labels=labels,
            texts=texts,
            cells=cells,
            positives=positives,
            ignored=ignored,
            targets=[tensor.numpy() for tensor in vars(targets).values()],
        )

    def _scores(self, batch: ScoredBatch) -> Tensor:
        # Documents and labels at once: a token's vector is read, and moved, once.
        vectors = self._encode(batch.encoded)
        documents, texts = vectors[: len(batch.rows)], vectors[len(batch.rows) :]
        classifiers = self._classifiers(batch.labels, batch.texts.components(texts))
        scores = self._documents(documents) @ classifiers.T + self.classifiers.offset
        if batch.cells is None:
            return scores
        return scores.gather(1, *send([batch.cells], self.device))

    def document_vectors(self, rows: Ids) -> Tensor:
        """Return the documents of training rows at unit length, shape (b, dim)."""
        return self._documents(self._encode(self.rows[rows]))

    def _documents(self, vectors: Tensor) -> Tensor:
        return functional.normalize(self.document(vectors), dim=1)

    def classifiers_of(self, labels: Ids) -> Tensor:
        """Return the classifiers of distinct, sorted labels, ``w_l / (|w_l| temperature)``."""
        return self._classifiers(labels, self.texts(labels))

    def _classifiers(self, labels: Ids, texts: list[Tensor]) -> Tensor:
        return self.loss.scaled(functional.normalize(self.classifiers(labels, texts), dim=1))

    def _encode(self, prepared: Any) -> Tensor:
        vectors = self.encoder.module_(prepared)
        return vectors if self.trains_encoder else vectors.detach()

    @torch.no_grad()
    def fit_offset(self) -> None:
        """Set the offset to where the mean probability of some rows is their mean target.

        Before training, because from an offset of 0 the first epochs do little but push all scores
        down; after it, because not every loss depends on the offset.
        """
        self.modules.eval()
        self.classifiers.offset.zero_()
        rows = np.arange(min(len(self.sample_weight), OFFSET_ROWS))
        scores, positives, hidden = self.batch_scores(rows)
        shown = torch.ones_like(positives) if hidden is None else ~hidden
        products = scores[shown].cpu().numpy().astype(np.float64)
        share = float(np.clip(int(positives.sum()) / max(len(products), 1), 1e-6, 1 - 1e-6))
        bound = float(np.abs(products).max(initial=1)) + abs(float(logit(share))) + 1
        offset = brentq(lambda c: expit(products + c).mean() - share, -bound, bound)
        self.classifiers.offset.fill_(offset)

    def _cells(
        self, rows: Ids, pool: Ids | None
    ) -> tuple[Ids, Ids | None, NDArray[np.bool_], NDArray[np.bool_] | None]:
        """Return the labels of a step, the scored cells among them, and the masks of the cells."""
        if pool is not None or self.targets is None:
            pool, ignored = self.outputs if pool is None else pool, None
            if self.excluded is not None:
                ignored = membership(self.excluded, rows, pool)
            return pool, None, membership(self.y, rows, pool), ignored
        owner, labels = row_entries(self.targets, rows)
        is_positive = self.targets[rows].data > 0
        pool, column = np.unique(labels, return_inverse=True)
        # Rows of different length are padded; a padded cell repeats column 0 and is ignored.
        lengths = np.bincount(owner, minlength=len(rows))
        place = np.arange(len(owner)) - (np.cumsum(lengths) - lengths)[owner]
        shape = (len(rows), int(lengths.max(initial=1)))
        cells = np.zeros(shape, dtype=np.int64)
        positives, ignored = np.zeros(shape, dtype=bool), np.ones(shape, dtype=bool)
        cells[owner, place] = column
        positives[owner, place] = is_positive
        ignored[owner, place] = False
        return pool, cells, positives, ignored

    def evaluate(self) -> float:
        """Return the figure on held-out rows."""
        assert self.held_out is not None  # nothing is watched without held-out rows
        self.modules.eval()
        return self.held_out(self)

    @torch.no_grad()
    def classifier_weights(self) -> NDArray[np.float32]:
        """Return all classifiers, shape (L, dim)."""
        return self._blockwise(self.classifiers_of)

    @torch.no_grad()
    def fusion_weights(self) -> NDArray[np.float32]:
        """Return the weight of every component in every classifier, shape (L, n_components)."""
        module = self.classifiers

        def weights(ids: Ids) -> Tensor:
            return module.fusion(ids, module.components(ids, self.texts(ids)))

        return self._blockwise(weights)

    def _blockwise(self, function: Callable[[Ids], Tensor]) -> NDArray[np.float32]:
        self.modules.eval()
        starts = range(0, len(self.outputs), BLOCK_LABELS)
        blocks = [self.outputs[start : start + BLOCK_LABELS] for start in starts]
        return np.concatenate([function(ids).cpu().numpy() for ids in blocks])


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
