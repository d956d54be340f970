from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.linear import build_tree, flat_tree
from skxc.linear._tree import match_rows


def make(n=53, max_leaf_size=4, branching=4, seed=0):
    rng = np.random.default_rng(seed)
    vectors = sp.random_array((n, 20), density=0.3, rng=rng, format="csr", dtype=np.float32)
    labels = np.sort(rng.choice(200, n, replace=False))
    return labels, build_tree(
        vectors, labels, max_leaf_size=max_leaf_size, branching=branching, rng=rng
    )


def parents_of(tree):
    """Return {child: parent} by loops."""
    return {
        child: node
        for node in range(tree.n_inner)
        for child in range(tree.child_start[node], tree.child_start[node + 1])
    }


@pytest.mark.parametrize("branching", [2, 4, 8, 16, 64])
@pytest.mark.parametrize("max_leaf_size", [2, 5, 30])
def test_shape_of_the_tree(branching, max_leaf_size):
    labels, tree = make(branching=branching, max_leaf_size=max_leaf_size)
    parents = parents_of(tree)
    assert sorted(tree.labels) == labels.tolist()
    assert set(parents) == set(range(1, tree.n_inner + 53))
    starts = tree.level_starts
    assert starts[-1] == tree.n_inner
    for place in range(53):
        path, node = [], tree.n_inner + place
        while node:
            node = parents[node]
            path.append(node)
        assert path[::-1][1:] == tree.ancestors[:, place].tolist()
    sizes = np.diff(tree.child_start)
    upper, leaves = sizes[: starts[-2]], sizes[starts[-2] :]
    assert leaves.max() <= max_leaf_size
    assert leaves.max() - leaves.min() <= 1
    assert set(upper) <= {2, 4, 8, 16, 32}
    assert upper.max() <= min(branching**1.5, len(leaves))
    assert upper.max() <= 2 * upper.min()


def test_siblings_keep_the_order_of_labels():
    _, tree = make()
    for node in range(tree.level_starts[-2], tree.n_inner):
        first, end = tree.child_start[node : node + 2] - tree.n_inner
        assert sorted(tree.labels[first:end]) == tree.labels[first:end].tolist()


def test_similar_labels_are_siblings():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(8), 4)
    vectors = np.eye(8)[group] + 0.05 * rng.random((32, 8))
    tree = build_tree(
        sp.csr_array(vectors, dtype=np.float32),
        np.arange(32),
        max_leaf_size=8,
        branching=2,
        rng=rng,
    )
    leaves = tree.ancestors[-1]
    for one in range(8):
        places = np.flatnonzero(group[tree.labels] == one)
        assert len(set(leaves[places])) <= 2


def test_one_leaf_is_a_flat_tree():
    labels, tree = make(max_leaf_size=53)
    flat = flat_tree(labels)
    for one in (tree, flat):
        assert one.child_start.tolist() == [1, 54]
        assert one.ancestors.shape == (0, 53)
        np.testing.assert_array_equal(one.labels, labels)
        assert one.level_starts == [0, 1]


def test_matched_rows():
    _, tree = make()
    y = sp.random_array((30, 200), density=0.03, rng=np.random.default_rng(3), format="csr")
    (indptr, nodes), (node_indptr, rows) = match_rows(tree, sp.csr_array(y))
    parents = parents_of(tree)
    expected = []
    for row in y.toarray():
        mine = set()
        for label in np.flatnonzero(row):
            if label in tree.labels:
                node = tree.n_inner + tree.labels.tolist().index(label)
                while node:
                    mine.add(node)
                    node = parents[node]
        expected.append(sorted(mine))
    assert any(len(mine) == 0 for mine in expected)
    assert [nodes[slice(*indptr[i : i + 2])].tolist() for i in range(30)] == expected
    for node in range(tree.n_inner):
        mine = [i for i in range(30) if node in expected[i] or node == 0]
        assert rows[slice(*node_indptr[node : node + 2])].tolist() == mine


def test_cut():
    _, tree = make(branching=2)
    starts = tree.level_starts
    for begin, end in pairwise(starts[1:]):
        top = tree.cut(begin, end)
        assert top.n_inner == begin
        assert top.labels.tolist() == list(range(begin, end))
        assert top.child_start.tolist() == tree.child_start[: begin + 1].tolist()
        assert top.child_start[-1] == end
