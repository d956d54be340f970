"""Train the linear classifiers of label trees."""

from __future__ import annotations

from itertools import chain

import numpy as np
import scipy.sparse as sp
from joblib import Parallel, delayed
from numpy.typing import NDArray

from skxc.linear._chunks import Chunk, ChunkedWeights, join_chunks, make_chunk
from skxc.linear._solver import LOSSES, Problem, Solver, train_blocks
from skxc.linear._tree import Tree, match_rows
from skxc.utils._sparse import row_ids

# Siblings that are trained together: at most so many, and so few that their weights, for a guess of
# the features of a node, take at most 16 MB.
MAX_BLOCK, MIN_BLOCK, BLOCK_CELLS = 256, 16, 1 << 22
# Parts of the work per job: more of them balance better.
PARTS_PER_JOB = 8


def train_trees(
    trees: list[tuple[Tree, int]],
    X: sp.csr_array,
    y: sp.csr_array,
    *,
    sample_weight: NDArray[np.floating],
    label_weight: NDArray[np.float32],
    loss: str,
    C: float,
    solver: Solver,
    n_jobs: int = 1,
) -> tuple[ChunkedWeights, int]:
    """Train every node on the rows with a label under its parent.

    Parameters
    ----------
    trees : list of (Tree, seed)
        The seed decides the order in which rows are visited.
    X : csr_array of float32, shape (n, d)
        Rows of length one, or empty.
    y : csr_array, shape (n, L)
        Their labels.
    sample_weight : ndarray, shape (n,)
        Factors of C.
    label_weight : ndarray of float32, shape (L,)
        Factors of C for the positive rows of a label.
    loss : {"squared_hinge", "logistic"}
    C : float
        Weight of a row's loss against the squared norm of the weights.
    solver : Solver
    n_jobs : int, default=1
        Number of threads; the result does not depend on it.

    Returns
    -------
    weights : ChunkedWeights
    n_iter : int
        Passes that the slowest classifier needed.
    """
    curvature = np.ones(X.shape[0], dtype=np.float32)
    np.add.at(curvature, row_ids(X), X.data**2)
    found = []
    for tree, seed in trees:
        (node_indptr, nodes), (member_indptr, members) = match_rows(tree, y)
        factor = np.ones(tree.child_start[-1], dtype=np.float32)
        factor[tree.n_inner :] = label_weight[tree.labels]
        problem = Problem(
            indptr=X.indptr.astype(np.int64, copy=False),
            indices=X.indices.astype(np.int32, copy=False),
            values=X.data,
            n_features=X.shape[1],
            curvature=curvature,
            diagonal=np.float32(0.5) / (C * sample_weight).astype(np.float32),
            node_indptr=node_indptr,
            nodes=nodes,
            member_indptr=member_indptr,
            members=members,
            factor=factor,
            loss=LOSSES[loss],
            tol=np.float32(solver.tol),
            max_iter=solver.max_iter,
            prune=np.float32(solver.prune),
            seed=seed,
        )
        found.append(_train_tree(tree, problem, n_jobs))
    bias, chunks, n_iter = zip(*found, strict=True)
    trees_alone = [tree for tree, _ in trees]
    return _join(trees_alone, bias, list(chain.from_iterable(chunks))), max(n_iter)


def _train_tree(
    tree: Tree, problem: Problem, n_jobs: int
) -> tuple[NDArray[np.float32], list[Chunk], int]:
    """Return the bias of every node, the chunks of the inner ones, and the number of passes."""
    blocks = _blocks(tree, problem)
    work = np.diff(problem.member_indptr)[blocks[:, 0]] * blocks[:, 2].astype(float)
    parts = Parallel(n_jobs=n_jobs, require="sharedmem")(
        delayed(train_blocks)(blocks[part], problem) for part in _parts(work, n_jobs)
    )
    found = list(chain.from_iterable(parts))
    weights: list[list[tuple[NDArray, ...]]] = [[] for _ in range(tree.n_inner)]
    for (node, first, _), (_, features, children, values, _) in zip(blocks, found, strict=True):
        # Children are counted within the node from now on.
        children += np.int32(first - tree.child_start[node])
        weights[node].append((features, children, values))
    chunks = [make_chunk(*map(np.concatenate, zip(*of_node, strict=True))) for of_node in weights]
    bias = np.concatenate([np.zeros(1, dtype=np.float32), *(block[0] for block in found)])
    return bias, chunks, max(block[4] for block in found)


def _blocks(tree: Tree, problem: Problem) -> NDArray[np.int64]:
    """Return (node, first child, number of children) of the parts of the work."""
    row_length = len(problem.values) / len(problem.curvature)
    n_rows = np.diff(problem.member_indptr)
    n_features = np.minimum(problem.n_features, row_length * n_rows / 2)
    widths = np.clip(BLOCK_CELLS / (1 + n_features) // 16 * 16, MIN_BLOCK, MAX_BLOCK)
    blocks: list[tuple[int, int, int]] = []
    for node, width in enumerate(widths.astype(int).tolist()):
        first, stop = tree.child_start[node : node + 2].tolist()
        blocks += [(node, at, min(width, stop - at)) for at in range(first, stop, width)]
    return np.array(blocks, dtype=np.int64)


def _parts(work: NDArray[np.float64], n_jobs: int) -> list[NDArray[np.int64]]:
    """Cut the blocks into consecutive parts of about equal work."""
    if n_jobs == 1:
        return [np.arange(len(work))]
    done = np.cumsum(work) - work / 2
    part = (done / max(work.sum(), 1) * PARTS_PER_JOB * n_jobs).astype(np.int64)
    return np.split(np.arange(len(work)), np.flatnonzero(np.diff(part)) + 1)


def _join(
    trees: list[Tree], bias: tuple[NDArray[np.float32], ...], chunks: list[Chunk]
) -> ChunkedWeights:
    """Return one model of several trees, with their nodes numbered together."""
    inner = np.cumsum([0, *(tree.n_inner for tree in trees)])
    labels = inner[-1] + np.cumsum([0, *(len(tree.labels) for tree in trees)])
    first_child = []
    for t, tree in enumerate(trees):
        first, n = tree.child_start[:-1], tree.n_inner
        first_child.append(np.where(first < n, first + inner[t], first - n + labels[t]))
    of_inner = [part[: tree.n_inner] for part, tree in zip(bias, trees, strict=True)]
    of_labels = [part[tree.n_inner :] for part, tree in zip(bias, trees, strict=True)]
    return ChunkedWeights(
        roots=inner[:-1],
        first_child=np.concatenate(first_child),
        n_children=np.concatenate([np.diff(tree.child_start) for tree in trees]),
        labels=np.concatenate([tree.labels for tree in trees]),
        bias=np.concatenate(of_inner + of_labels),
        **join_chunks(chunks),
    )
