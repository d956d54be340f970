import numpy as np
import pytest
import scipy.sparse as sp

from skxc.graphs import (
    Pruning,
    _prune,
    as_ones,
    edge_cosines,
    keep_edges,
    keep_strongest,
    strongest_products,
    without_diagonal,
    without_hubs,
)


def graph(seed=0, n=8):
    rng = np.random.default_rng(seed)
    weights = rng.integers(1, 4, size=(n, n)) * (rng.random((n, n)) < 0.5)
    weights[3] = 0
    return sp.csr_array(weights.astype(np.float32))


def test_without_diagonal():
    full = graph()
    expected = full.toarray()
    np.fill_diagonal(expected, 0)
    pruned = without_diagonal(full)
    np.testing.assert_array_equal(pruned.toarray(), expected)
    assert pruned.nnz == np.count_nonzero(expected)
    assert full.diagonal().any(), "the argument is left alone"


def test_a_graph_of_self_loops_has_no_edge_left():
    assert without_diagonal(sp.csr_array(np.eye(4))).nnz == 0
    assert without_diagonal(sp.csr_array((4, 4))).shape == (4, 4)


@pytest.mark.parametrize("top_k", [1, 2, 20])
def test_keep_strongest(top_k):
    full = graph()
    kept = keep_strongest(full, top_k).toarray()
    for row, weights in enumerate(full.toarray()):
        edges = sorted((-w, column) for column, w in enumerate(weights) if w)[:top_k]
        expected = np.zeros(8)
        for weight, column in edges:
            expected[column] = -weight
        np.testing.assert_array_equal(kept[row], expected)


@pytest.mark.parametrize("n_rows", [0, 1, 7, 20])
def test_strongest_products_are_those_of_the_whole_product(monkeypatch, n_rows):
    rng = np.random.default_rng(0)
    left, right = (
        sp.csr_array(rng.integers(3, size=shape).astype(np.float32))
        for shape in ((n_rows, 6), (6, 9))
    )
    monkeypatch.setattr("skxc.graphs._prune.BLOCK_ROWS", 7)
    found = strongest_products(left, right, 4)
    np.testing.assert_array_equal(found.toarray(), keep_strongest(left @ right, 4).toarray())
    assert found.shape == (n_rows, 9)
    assert np.diff(found.indptr).max(initial=0) <= 4


def test_keep_edges():
    full = graph()
    heavy = keep_edges(full, full.data > 1)
    np.testing.assert_array_equal(heavy.toarray(), np.where(full.toarray() > 1, full.toarray(), 0))
    assert heavy.nnz == (full.data > 1).sum()


@pytest.mark.parametrize("threshold", [0, 2, 3, 100])
def test_without_hubs(threshold):
    full = graph()[:, :6]
    present = full.toarray() > 0
    few = (present.sum(axis=1) <= threshold)[:, None] & (present.sum(axis=0) <= threshold)
    kept = without_hubs(full, threshold)
    np.testing.assert_array_equal(kept.toarray(), np.where(few, full.toarray(), 0))
    assert without_hubs(full, None) is full


def test_edge_cosines(monkeypatch):
    monkeypatch.setattr(_prune, "BLOCK_EDGES", 5)
    full, rng = graph()[:, :6], np.random.default_rng(0)
    rows, columns = (rng.normal(size=(n, 4)).astype(np.float32) for n in (8, 6))
    products = rows @ columns.T
    entries = sp.coo_array(full)
    np.testing.assert_allclose(
        edge_cosines(full, rows, columns), products[entries.row, entries.col], atol=1e-6
    )
    assert edge_cosines(sp.csr_array((8, 6)), rows, columns).shape == (0,)


def test_as_ones():
    ones = as_ones(sp.csr_array(np.array([[0, 2, 5], [3, 0, 0]], dtype=np.float32)))
    np.testing.assert_array_equal(ones.toarray(), [[0, 1, 1], [1, 0, 0]])


def test_pruning_begins_after_the_warmup():
    due = [epoch for epoch in range(10) if Pruning(warmup=3, interval=2).is_due(epoch)]
    assert due == [3, 5, 7, 9]


@pytest.mark.parametrize("name, value", [("warmup", -1), ("interval", 0), ("threshold", 1.5)])
def test_parameters_are_checked(name, value):
    with pytest.raises(ValueError, match=f"'{name}' parameter of Pruning must be"):
        Pruning(**{name: value})._validate_params()
