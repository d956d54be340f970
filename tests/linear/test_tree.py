import numpy as np
import pytest
import scipy.sparse as sp

from skxc.linear import LabelTree, grow_trees
from skxc.linear._tree import build_tree, flat_tree, match_rows


def make(n=53, max_leaf_size=4, branching=4, seed=0):
    rng = np.random.default_rng(seed)
    vectors = sp.random_array(
        (n, 20), density=0.3, random_state=rng, format="csr", dtype=np.float32
    )
    labels = np.sort(rng.choice(200, n, replace=False))
    settings = LabelTree(max_leaf_size=max_leaf_size, branching=branching)
    return labels, build_tree(vectors, labels, settings, rng)


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
    for place, *path in zip(range(53), *tree.paths(), strict=True):
        node = tree.n_inner + place
        for step in path:
            assert step == node
            node = parents[node]
        assert node == 0
    sizes = np.diff(tree.child_start)
    is_leaf = tree.child_start[:-1] >= tree.n_inner
    upper, leaves = sizes[~is_leaf], sizes[is_leaf]
    assert leaves.max() <= max_leaf_size
    assert leaves.max() - leaves.min() <= 1
    assert set(upper) <= {2, 4, 8, 16, 32}
    assert upper.max() <= min(branching**1.5, len(leaves))
    assert upper.max() <= 2 * upper.min()


def test_siblings_keep_the_order_of_labels():
    _, tree = make()
    for node in np.flatnonzero(tree.child_start[:-1] >= tree.n_inner):
        first, end = tree.child_start[node : node + 2] - tree.n_inner
        assert sorted(tree.labels[first:end]) == tree.labels[first:end].tolist()


def test_similar_labels_are_siblings():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(8), 4)
    vectors = np.eye(8)[group] + 0.05 * rng.random((32, 8))
    vectors = sp.csr_array(vectors, dtype=np.float32)
    tree = build_tree(vectors, np.arange(32), LabelTree(max_leaf_size=8, branching=2), rng)
    leaves = tree.paths()[1]
    for one in range(8):
        places = np.flatnonzero(group[tree.labels] == one)
        assert len(set(leaves[places])) <= 2


def test_one_leaf_is_a_flat_tree():
    labels, tree = make(max_leaf_size=53)
    flat = flat_tree(labels)
    for one in (tree, flat):
        assert one.child_start.tolist() == [1, 54]
        assert [level.tolist() for level in one.paths()] == [list(range(1, 54))]
        np.testing.assert_array_equal(one.labels, labels)


def test_matched_rows():
    _, tree = make()
    y = sp.random_array(
        (30, 200), density=0.03, random_state=np.random.default_rng(3), format="csr"
    )
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


@pytest.mark.parametrize(
    ("flat", "n_labels", "is_flat"),
    [("auto", 1000, True), ("auto", 1001, False), (True, 1001, True), (False, 5, False)],
)
def test_flat_up_to_a_number_of_labels(flat, n_labels, is_flat):
    calls = []

    def vectors(graph_weight):
        calls.append(graph_weight)
        return sp.csr_array(np.eye(n_labels, dtype=np.float32))

    settings = LabelTree(flat=flat, max_leaf_size=2, n_trees=2, graph_weight=0.3)
    trees = grow_trees(settings, np.arange(n_labels), vectors, seed=0)
    assert len(trees) == (1 if is_flat else 2)
    assert {tree.n_inner == 1 for tree, _ in trees} == {is_flat}
    assert calls == ([] if is_flat else [0.3])
    assert len({seed for _, seed in trees}) == len(trees)


def test_trees_hold_the_given_labels_only():
    vectors = sp.csr_array(np.eye(9, dtype=np.float32))
    labels = np.array([0, 3, 4, 8])
    ((tree, _),) = grow_trees(
        LabelTree(flat=False, max_leaf_size=2), labels, lambda **_: vectors, seed=0
    )
    assert sorted(tree.labels) == labels.tolist()


def test_parameters_are_checked():
    with pytest.raises(ValueError, match="'max_leaf_size' parameter of LabelTree must be an int"):
        LabelTree(max_leaf_size=1)._validate_params()
