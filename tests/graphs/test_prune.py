import numpy as np
import pytest
import scipy.sparse as sp

from skxc.graphs import keep_strongest, without_diagonal


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
