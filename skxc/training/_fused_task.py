"""What ECLARE trains in each of its stages: fused classifiers against documents.

A step scores all its documents against one pool of outputs, and builds the classifiers of these
only: the outputs of all documents of the batch and, in the ranker, some labels of their shortlists.
In the paper surrogate and shortlister score every output at every step, and the ranker scores every
document against its own shortlist only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit
from torch import Tensor, nn
from torch.nn import functional

from skxc.batching import Batching
from skxc.graphs import keep_edges
from skxc.losses import BinaryCrossEntropy, Loss
from skxc.negatives import membership
from skxc.negatives._pairs import row_entries, sample_positives
from skxc.negatives.base import union
from skxc.training._fused_classifier import DocumentBlock, FusedClassifiers
from skxc.training._loop import Task
from skxc.training._text_sources import EncodedRows, EncodedTexts, FixedTexts, FixedVectors
from skxc.utils._random import torch_seed
from skxc.utils._sparse import pair_ids

if TYPE_CHECKING:
    from skxc.encoders import Encoder

Ids = NDArray[np.int64]
# How much slower blocks and attention learn than tables.
DENSE_SHARE = 10
# Rows that the offset of the scores is fitted on.
OFFSET_ROWS = 256
# Classifiers materialised at once.
BLOCK_LABELS = 4096


class FusedClassifierTask(Task):
    """Train fused classifiers and a document block on one label space: of clusters, or of labels.

    Parameters
    ----------
    name : str
    rows, texts : ndarrays of float32, shapes (n, dim) and (L, dim), or csr_arrays
        Fixed text vectors of the samples and of the outputs, or, with an encoder, what it prepared.
    hops : list of csr_array, shape (L, L)
        The normalised graph and its powers; each gives a text component.
    start : ndarray of float32, shape (L, dim), or None
        Initial free vectors; None: none.
    y : csr_array of shape (n, L)
        Targets.
    sample_weight : ndarray of shape (n,)
    batches : Batching
    seed : int
        Of the initial weights.
    device : torch.device
    encoder : Encoder or None, default=None
        Trained with the classifiers.
    candidates : csr_array of shape (n, L) or None, default=None
        Stored entries are what a row is scored against; None: every output.
    n_negatives : int or None, default=None
        Candidates of a row that enter the pool of its batch at each step, beside the outputs of all
        its rows; without `candidates`, the pool is these outputs alone. None: no pools, every row
        is scored against all its candidates and nothing else.
    add_missed : bool, default=True
        Whether positives that are no candidates are scored too.
    excluded : csr_array of shape (n, L) or None, default=None
        Pairs that are no labels, but must not be negatives either.
    fusion : {"attention", "sum"}, default="attention"
    dropout : float, default=0.2
    loss : Loss or None, default=None
        None: `BinaryCrossEntropy`.
    temperature : float, default=0.05
        Divides the cosines of documents and classifiers.
    learning_rate : float, default=0.01
        Of tables; blocks and attention, whose entries all labels share, learn at a tenth of it.

    Attributes
    ----------
    held_out : callable or None
        Returns the figure that early stopping watches, from this task.
    attributes : callable or None
        Returns the fitted attributes that the task amounts to.
    """

    held_out: Callable[[FusedClassifierTask], float] | None = None
    attributes: Callable[[], dict[str, Any]] | None = None

    def __init__(
        self,
        name: str,
        *,
        rows: Any,
        texts: Any,
        hops: list[sp.csr_array],
        start: NDArray[np.float32] | None,
        y: sp.csr_array,
        sample_weight: NDArray[np.floating],
        batches: Batching,
        seed: int,
        device: torch.device,
        encoder: Encoder | None = None,
        candidates: sp.csr_array | None = None,
        n_negatives: int | None = None,
        add_missed: bool = True,
        excluded: sp.csr_array | None = None,
        fusion: str = "attention",
        dropout: float = 0.2,
        loss: Loss | None = None,
        temperature: float = 0.05,
        learning_rate: float = 0.01,
    ) -> None:
        self.name = name
        self.encoder = encoder
        self.y = y
        self.excluded = excluded
        self.sample_weight = sample_weight.astype(np.float32)
        self.row_batches = batches
        self.device = device
        self.learning_rate = learning_rate
        self.loss = BinaryCrossEntropy() if loss is None else loss
        self.temperature = temperature
        self.outputs = np.arange(y.shape[1], dtype=np.int64)
        self.targets = None
        if candidates is not None:
            self.targets = candidate_targets(candidates, y, excluded, add_missed)
        self.n_negatives = n_negatives
        if n_negatives is not None:
            marks = y if self.targets is None else self.targets
            self.drawn = keep_edges(marks, marks.data > 0)
            self.negatives = keep_edges(marks, marks.data < 0)
        self.documents: Callable[[Ids], Tensor]
        self.texts: Callable[[Ids], list[Tensor]]
        if encoder is None:
            dim = texts.shape[1]
            self.documents = FixedVectors(rows, device)
            self.texts = FixedTexts(texts, hops, device)
        else:
            dim = encoder.dim_
            self.documents = EncodedRows(encoder.module_, rows)
            self.texts = EncodedTexts(EncodedRows(encoder.module_, texts), hops)
        with torch_seed(seed):
            self.classifiers = FusedClassifiers(
                dim, 1 + len(hops), start=start, fusion=fusion, dropout=dropout
            )
            self.document = DocumentBlock(dim, dropout)
        self.modules = nn.ModuleDict({"classifiers": self.classifiers, "document": self.document})
        if encoder is not None:
            self.modules["encoder"] = encoder.module_
        self.modules.to(device)
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
        if self.encoder is not None:
            groups += self.encoder.parameter_groups(self.learning_rate)
        return groups

    def batches(self, epoch: int, rng: np.random.Generator) -> Iterator[Ids]:
        """Yield batches of row ids."""
        return self.row_batches.batches(epoch, rng)

    def backward(self, rows: Ids, rng: np.random.Generator) -> float:
        """Accumulate the gradients of a batch's loss."""
        scores, positives, ignored = self.batch_scores(rows, self.pool(rows, rng))
        weight = torch.from_numpy(self.sample_weight[rows]).to(self.device)
        loss = self.loss(scores, positives, row_weight=weight, ignored=ignored)
        loss.backward()
        return float(loss.detach())

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
        labels, cells, positives, ignored = self._cells(rows, pool)
        scores = self.document_vectors(rows) @ self.classifiers_of(labels).T
        scores = scores + self.classifiers.offset
        if cells is not None:
            scores = scores.gather(1, torch.from_numpy(cells).to(self.device))
        hidden = None if ignored is None else torch.from_numpy(ignored).to(self.device)
        return scores, torch.from_numpy(positives).to(self.device), hidden

    def document_vectors(self, rows: Ids) -> Tensor:
        """Return the documents of training rows at unit length, shape (b, dim)."""
        return functional.normalize(self.document(self.documents(rows)), dim=1)

    def classifiers_of(self, labels: Ids) -> Tensor:
        """Return the classifiers of distinct, sorted labels, ``w_l / (|w_l| temperature)``."""
        classifiers = self.classifiers(labels, self.texts(labels))
        return functional.normalize(classifiers, dim=1) / self.temperature

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
        if self.held_out is None:
            raise ValueError("The task has no held-out rows. Train it without early stopping.")
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
        return self._blockwise(lambda ids: module.fusion(module.components(ids, self.texts(ids))))

    def _blockwise(self, function: Callable[[Ids], Tensor]) -> NDArray[np.float32]:
        self.modules.eval()
        starts = range(0, len(self.outputs), BLOCK_LABELS)
        blocks = [self.outputs[start : start + BLOCK_LABELS] for start in starts]
        return np.concatenate([function(ids).cpu().numpy() for ids in blocks])


def candidate_targets(
    candidates: sp.csr_array, y: sp.csr_array, excluded: sp.csr_array | None, add_missed: bool
) -> sp.csr_array:
    """Return what every row is scored against: 1 at its labels, -1 at other candidates.

    Parameters
    ----------
    candidates : csr_array of shape (n, L)
        Stored entries count, whatever their value.
    y : csr_array of shape (n, L)
    excluded : csr_array of shape (n, L) or None
        Pairs that are never scored.
    add_missed : bool
        Whether labels of a row that are no candidates are added.

    Returns
    -------
    csr_array of int8, shape (n, L)
    """
    ones = sp.csr_array(
        (np.ones(candidates.nnz, np.int8), candidates.indices, candidates.indptr), candidates.shape
    )
    truth = sp.csr_array((np.full(y.nnz, 2, np.int8), y.indices, y.indptr), shape=y.shape)
    marked = sp.csr_array(ones + truth)
    marked.sort_indices()
    # 1: candidate, 2: missed label, 3: label and candidate.
    keep = np.ones(marked.nnz, dtype=bool) if add_missed else marked.data != 2
    if excluded is not None:
        own = np.isin(pair_ids(marked), pair_ids(excluded))
        keep &= ~own | (marked.data >= 2)
    marked.data = np.where(marked.data >= 2, 1, -1).astype(np.int8)
    return keep_edges(marked, keep)
