"""Small models for the tests of linear classifiers over trees."""

from types import SimpleNamespace

import numpy as np
import scipy.sparse as sp

from skxc.linear import Solver, TreeTrainer, build_tree, label_vectors
from skxc.utils._sparse import normalize_rows


def small_problem(seed=0, n=120, d=40, n_labels=23):
    """Return sparse rows of length one and labels that depend on them; label 5 has no row."""
    rng = np.random.default_rng(seed)
    X = sp.random_array((n, d), density=0.2, rng=rng, format="csr", dtype=np.float32)
    scores = X @ rng.normal(size=(d, n_labels))
    y = scores >= np.quantile(scores, 0.9, axis=1, keepdims=True)
    y[:, 5] = False
    return normalize_rows(sp.csr_array(X)), sp.csr_array(y.astype(np.float32))


def trainer(X, y, seed=0, *, max_leaf_size=3, branching=2, **kw):
    """Return a trainer on a small, deep tree."""
    ones = np.ones(X.shape[0])
    labels = np.unique(y.indices).astype(np.int64)
    tree = build_tree(
        label_vectors(X, y, ones)[labels],
        labels,
        max_leaf_size=max_leaf_size,
        branching=branching,
        rng=np.random.default_rng(seed),
    )
    settings = {
        "sample_weight": ones,
        "label_weight": np.ones(y.shape[1], dtype=np.float32),
        "solver": Solver(C=1.0, prune=0.05),
        "seed": seed,
    }
    return TreeTrainer(tree, X, y, **(settings | kw))


def random_model(seed):
    """Return a tree and its trained model."""
    work = trainer(*small_problem(seed), seed)
    return work.tree, work.train()


def dense_model(tree, chunks):
    """Return the tree with dense (d, nodes) weights and biases, read out of the chunks."""
    weights = np.zeros((40, tree.child_start[-1]))
    for node in range(tree.n_inner):
        mine = slice(chunks.key_start[node], chunks.key_start[node + 1])
        begins = chunks.rows[mine]
        n_entries = chunks.entry_start[node + 1] - chunks.entry_start[node]
        for key, begin, end in zip(
            chunks.keys[mine], begins, np.append(begins, n_entries)[1:], strict=True
        ):
            inside = chunks.entry_start[node] + np.arange(begin, end)
            children = tree.child_start[node] + chunks.children[inside]
            weights[key, children] = chunks.values[inside]
    return SimpleNamespace(
        child_start=tree.child_start,
        n_inner=tree.n_inner,
        labels=tree.labels.tolist(),
        weights=weights,
        bias=chunks.bias.astype(float),
    )
