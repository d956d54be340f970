"""Small models for the tests of linear classifiers over trees."""

from types import SimpleNamespace

import numpy as np
import scipy.sparse as sp

from skxc.linear import LabelTree, Solver, label_vectors, train_trees
from skxc.linear._chunks import hashed
from skxc.linear._tree import build_tree
from skxc.utils._sparse import normalize_rows


def small_problem(seed=0, n=120, d=40, n_labels=23):
    """Return sparse rows of length one and labels that depend on them; label 5 has no row."""
    rng = np.random.default_rng(seed)
    X = sp.random_array((n, d), density=0.2, random_state=rng, format="csr", dtype=np.float32)
    scores = X @ rng.normal(size=(d, n_labels))
    y = scores >= np.quantile(scores, 0.9, axis=1, keepdims=True)
    y[:, 5] = False
    return normalize_rows(sp.csr_array(X)), sp.csr_array(y.astype(np.float32))


def small_tree(X, y, seed=0):
    """Return a small, deep tree."""
    labels = np.unique(y.indices).astype(np.int64)
    vectors = label_vectors(X, y, np.ones(X.shape[0]))[labels]
    settings = LabelTree(max_leaf_size=3, branching=2)
    return build_tree(vectors, labels, settings, np.random.default_rng(seed))


SETTINGS = {
    "sample_weight": np.ones(120),
    "label_weight": np.ones(23, dtype=np.float32),
    "loss": "squared_hinge",
    "C": 1.0,
    "solver": Solver(prune=0.05),
}


def train(tree, X, y, **changes):
    """Return the weights of a tree."""
    return train_trees([(tree, 0)], X, y, **(SETTINGS | changes))[0]


def random_model(seed):
    """Return a tree and its weights."""
    X, y = small_problem(seed)
    tree = small_tree(X, y, seed)
    return tree, train(tree, X, y)


def dense_model(tree, chunks, d=40):
    """Return the tree with dense (d, nodes) weights and biases, read out of the chunks."""
    weights = np.zeros((d, tree.child_start[-1]))
    feature_of = {int(key): feature for feature, key in enumerate(hashed(np.arange(d)))}
    ends = np.append(chunks.first_bucket, len(chunks.buckets) - 1)[1:]
    for node, (begin, end) in enumerate(zip(chunks.first_bucket, ends, strict=True)):
        for row in range(chunks.buckets[begin], chunks.buckets[end]):
            entries = slice(chunks.rows[row], chunks.rows[row + 1])
            children = tree.child_start[node] + chunks.children[entries]
            weights[feature_of[int(chunks.keys[row])], children] = chunks.values[entries]
    return SimpleNamespace(
        child_start=tree.child_start,
        n_inner=tree.n_inner,
        labels=tree.labels.tolist(),
        weights=weights,
        bias=chunks.bias.astype(float),
    )
