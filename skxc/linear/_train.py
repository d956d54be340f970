"""Train the linear classifiers of label trees, and join the trees to one model."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp
from joblib import Parallel, delayed
from numpy.typing import NDArray

from skxc.linear._chunks import ChunkedWeights, pack_nodes, search_rows
from skxc.linear._solver import LOSSES, train_blocks
from skxc.linear._tree import LabelTree, match_rows
from skxc.utils._sparse import TopK, index_dtype

# Siblings that are trained together: at most so many, and so few that their weights, for a guess of
# the features of a node, take at most 16 MB.
MAX_BLOCK, MIN_BLOCK, BLOCK_CELLS = 256, 16, 1 << 22
# Parts of the work per job: more of them balance better.
PARTS_PER_JOB = 8
# Rows that are searched together: at most so many, and with at most so many candidates.
SEARCH_ROWS, SEARCH_CELLS = 1024, 1 << 22


@dataclass(frozen=True)
class Solver:
    """Settings of the dual coordinate descent.

    Attributes
    ----------
    loss : {"squared_hinge", "logistic"}
    C : float
        Weight of a row's loss, relative to the squared norm of the weights.
    tol : float
        Stop at a range of projected gradients of at most this.
    max_iter : int
        Largest number of passes over the rows.
    prune : float
        Weights with a smaller absolute value are dropped.
    """

    loss: str = "squared_hinge"
    C: float = 1.0
    tol: float = 0.1
    max_iter: int = 30
    prune: float = 0.1


def csr_arrays(matrix: sp.csr_array) -> tuple[NDArray, NDArray, NDArray]:
    """Return the arrays of a CSR matrix in the types of the kernels."""
    indptr = matrix.indptr.astype(np.int64, copy=False)
    indices = matrix.indices.astype(np.int32, copy=False)
    return indptr, indices, matrix.data.astype(np.float32, copy=False)


def _parts(work: NDArray[np.float64], n_jobs: int) -> list[NDArray[np.int64]]:
    """Cut the blocks into consecutive parts of about equal work."""
    if n_jobs == 1:
        return [np.arange(len(work))]
    done = np.cumsum(work) - work / 2
    part = (done / max(work.sum(), 1) * PARTS_PER_JOB * n_jobs).astype(np.int64)
    return np.split(np.arange(len(work)), np.flatnonzero(np.diff(part)) + 1)


class TreeTrainer:
    """Trains the classifiers of one tree, for all nodes together or level by level.

    Parameters
    ----------
    tree : LabelTree
    X : csr_array of float32, shape (n, d)
        Rows of length one, or empty.
    y : csr_array, shape (n, L)
        Their labels.
    sample_weight : ndarray, shape (n,)
        Factors of C.
    label_weight : ndarray of float32, shape (L,)
        Factors of C for the positive rows of a label.
    solver : Solver
    seed : int
        Decides the order in which rows are visited.
    n_jobs : int
        Number of threads; the result does not depend on it.

    Attributes
    ----------
    n_iter : int
        Epochs that the slowest classifier needed so far.
    """

    def __init__(
        self,
        tree: LabelTree,
        X: sp.csr_array,
        y: sp.csr_array,
        *,
        sample_weight: NDArray[np.floating],
        label_weight: NDArray[np.float32],
        solver: Solver,
        seed: int,
        n_jobs: int = 1,
    ) -> None:
        self.tree, self.X, self.solver, self.n_jobs = tree, X, solver, n_jobs
        self.nodes, self.members = match_rows(tree, y)
        self.cost = (solver.C * sample_weight).astype(np.float32)
        self.factor = np.ones(tree.child_start[-1], dtype=np.float32)
        self.factor[tree.n_inner :] = label_weight[tree.labels]
        loss, tol, prune = LOSSES[solver.loss], np.float32(solver.tol), np.float32(solver.prune)
        self.settings = (loss, tol, solver.max_iter, prune, seed)
        self.bias = np.zeros(len(self.factor), dtype=np.float32)
        self.entry_start = np.zeros(tree.n_inner + 1, dtype=np.int64)
        self.entries: list[tuple[NDArray, ...]] = []
        self.n_iter = 0

    def train(self) -> ChunkedWeights:
        """Train all nodes on the rows with a label under them, and return the model."""
        self._train_nodes(0, self.tree.n_inner)
        return self._model(self.tree)

    def train_matched(self, beam_size: int) -> ChunkedWeights:
        """Train level by level; a node also gets the rows whose beam passes through it."""
        starts = self.tree.level_starts
        for begin, end in pairwise(starts):
            if begin > 0:
                self._add_matched(begin, end, beam_size)
            self._train_nodes(begin, end)
        return self._model(self.tree)

    def _train_nodes(self, begin: int, end: int) -> None:
        blocks = self._blocks(begin, end)
        work = np.diff(self.members[0])[blocks[:, 0]] * blocks[:, 2].astype(float)
        arrays = csr_arrays(self.X)
        found = Parallel(n_jobs=self.n_jobs, require="sharedmem")(
            delayed(train_blocks)(
                blocks[part], arrays, self.X.shape[1], self.cost, self.nodes, self.members,
                self.factor, self.settings,
            )
            for part in _parts(work, self.n_jobs)
        )  # fmt: skip
        results = [result for part in found for result in part]
        for (node, first, width), result in zip(blocks, results, strict=True):
            bias, features, children, values, n_iter = result
            self.n_iter = max(self.n_iter, n_iter)
            self.bias[first : first + width] = bias
            self.entry_start[node + 1] += len(values)
            # Children are counted within the node from now on.
            children += np.int32(first - self.tree.child_start[node])
            self.entries.append((features, children, values))

    def _blocks(self, begin: int, end: int) -> NDArray[np.int64]:
        """Return (node, first child, number of children) of the parts of the work."""
        blocks: list[tuple[int, int, int]] = []
        row_length = self.X.nnz / self.X.shape[0]
        for node in range(begin, end):
            first, stop = self.tree.child_start[node], self.tree.child_start[node + 1]
            n_rows = self.members[0][node + 1] - self.members[0][node]
            n_features = min(self.X.shape[1], row_length * n_rows / 2)
            width = BLOCK_CELLS / (1 + n_features)
            width = int(np.clip(width // 16 * 16, MIN_BLOCK, MAX_BLOCK))
            blocks += [(node, at, min(width, stop - at)) for at in range(first, stop, width)]
        return np.array(blocks, dtype=np.int64)

    def _add_matched(self, begin: int, end: int, beam_size: int) -> None:
        """Add the rows to the nodes `begin` to `end` that a search among them finds."""
        model = self._model(self.tree.cut(begin, end))
        loss, n = self.solver.loss, self.X.shape[0]
        k = min(beam_size, end - begin)
        found, _ = search(model, self.X, k, beam_size=beam_size, loss=loss, n_jobs=self.n_jobs)
        indptr, rows = self.members
        node_of = np.repeat(np.arange(self.tree.n_inner), np.diff(indptr))
        hits = found.ravel() >= 0
        node_of = np.concatenate([node_of, found.ravel()[hits]])
        rows = np.concatenate([rows, np.repeat(np.arange(n), k)[hits]])
        pairs = np.unique(node_of * n + rows)
        counts = np.bincount(pairs // n, minlength=self.tree.n_inner)
        self.members = np.concatenate([[0], np.cumsum(counts)]), pairs % n

    def _model(self, tree: LabelTree) -> ChunkedWeights:
        """Return what was trained so far as the model of a tree, which ends there."""
        # The parts go at once: they are the largest arrays of a training.
        self.entries = [tuple(np.concatenate(parts) for parts in zip(*self.entries, strict=True))]
        ((features, children, values),) = self.entries
        entry_start = np.cumsum(self.entry_start[: tree.n_inner + 1])
        bucket_start, key_start, *packed = pack_nodes(
            entry_start, features, children, values, self.X.shape[1]
        )
        starts = (bucket_start, key_start, entry_start)
        n_nodes = tree.child_start[-1]
        children_of = (tree.child_start[:-1], np.diff(tree.child_start))
        return ChunkedWeights(
            np.zeros(1, dtype=np.int64), *children_of, tree.labels, self.bias[:n_nodes],
            *starts, *packed,
        )  # fmt: skip


def join_models(models: list[ChunkedWeights]) -> ChunkedWeights:
    """Return one model of several trees."""
    if len(models) == 1:
        return models[0]
    inner = np.cumsum([0, *(len(model.first_child) for model in models)])
    labels = np.cumsum([0, *(len(model.labels) for model in models)])

    def shifted(model: ChunkedWeights, t: int) -> NDArray[np.int64]:
        n = len(model.first_child)
        to_label = inner[-1] + labels[t] - n
        return model.first_child + np.where(model.first_child < n, inner[t], to_label)

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(model, name) for model in models])

    def starts(name: str) -> NDArray[np.int64]:
        sizes = [np.diff(getattr(model, name)) for model in models]
        return np.concatenate([[0], np.cumsum(np.concatenate(sizes))])

    of_inner = [model.bias[: len(model.first_child)] for model in models]
    of_labels = [model.bias[len(model.first_child) :] for model in models]
    return ChunkedWeights(
        roots=inner[:-1],
        first_child=np.concatenate([shifted(model, t) for t, model in enumerate(models)]),
        n_children=joined("n_children"),
        labels=joined("labels"),
        bias=np.concatenate(of_inner + of_labels),
        bucket_start=starts("bucket_start"),
        key_start=starts("key_start"),
        entry_start=starts("entry_start"),
        **{name: joined(name) for name in ("buckets", "keys", "rows", "children", "values")},
    )


def search(
    model: ChunkedWeights,
    X: sp.csr_array,
    k: int,
    *,
    beam_size: int,
    loss: str,
    n_jobs: int = 1,
) -> TopK:
    """Return the k best labels of every row by beam search.

    Parameters
    ----------
    model : ChunkedWeights
    X : csr_array of float32, shape (n, d)
        Rows of any length.
    k : int
    beam_size : int
        Number of inner nodes that are followed per level and tree.
    loss : str
        The loss that the model was trained with.
    n_jobs : int, default=1
        Number of threads; the result does not depend on it.

    Returns
    -------
    indices : ndarray of int32, shape (n, k)
        Labels, best first, ties to the lower id; -1 where a row runs out.
    scores : ndarray of float32, shape (n, k)
        Log-probabilities; -inf where a row runs out.
    """
    n = X.shape[0]
    indices = np.empty((n, k), dtype=index_dtype(model.n_labels))
    scores = np.empty((n, k), dtype=np.float32)
    indptr, columns, values = csr_arrays(X)
    arrays, code = model.arrays(), LOSSES[loss]

    def run(start: int, stop: int) -> None:
        part = (indptr[start : stop + 1], columns, values)
        ids, found = indices[start:stop], scores[start:stop]
        search_rows(arrays, part, beam_size, code, model.n_labels, ids, found)

    cells = len(model.roots) * beam_size * int(model.n_children.max())
    size = max(1, min(SEARCH_ROWS, SEARCH_CELLS // cells))
    parts = [(start, min(start + size, n)) for start in range(0, n, size)]
    if n_jobs == 1 or len(parts) == 1:
        for part in parts:
            run(*part)
    else:
        Parallel(n_jobs=n_jobs, require="sharedmem")(delayed(run)(*part) for part in parts)
    return indices, scores
