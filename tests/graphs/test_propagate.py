import numpy as np
import scipy.sparse as sp

from skxc.graphs import (
    RandomWalk,
    keep_strongest,
    normalize_degrees,
    propagate,
    strongest_with_self_loops,
)
from tests.graphs.test_walk import Y, toy

NORMALIZED = np.array(
    [
        [0.434851, 0.248322, 0.014702, 0.290489],
        [0.223713, 0.469702, 0.263007, 0.016191],
        [0.013160, 0.261306, 0.721065, 0.000952],
        [0.445963, 0.027591, 0.001634, 0.550311],
    ]
)


def test_worked_example():
    graph = normalize_degrees(RandomWalk(n_terms=30).visits(Y))
    np.testing.assert_allclose(graph.toarray(), NORMALIZED, atol=2e-6)
    scores = propagate(sp.csr_array(np.eye(4, dtype=np.float32)[[1]]), graph, 4).toarray()[0]
    np.testing.assert_allclose(scores, [0.111856, 0.734851, 0.131504, 0.008096], atol=2e-6)


def test_a_hop_never_amplifies():
    walk = RandomWalk().visits(toy())
    for graph in (walk, strongest_with_self_loops(walk, 3), sp.csr_array(np.eye(4) * 7)):
        values = np.linalg.svd(normalize_degrees(graph).toarray(), compute_uv=False)
        np.testing.assert_allclose(values[0], 1, rtol=1e-5)


def test_empty_rows_and_columns_stay_empty():
    graph = normalize_degrees(sp.csr_array(np.array([[0.0, 4], [0, 0]])))
    assert graph.toarray().tolist() == [[0, 1], [0, 0]]


def test_an_identity_graph_changes_nothing():
    scores = sp.csr_array(
        sp.random_array((5, 9), density=0.4, random_state=np.random.default_rng(0))
    )
    identity = sp.csr_array(sp.eye_array(9))
    np.testing.assert_allclose(propagate(scores, identity, 9).toarray(), scores.toarray())


def test_lists_only_grow_and_only_the_best_arrive():
    graph = normalize_degrees(RandomWalk(n_terms=4).visits(toy()))
    scores = sp.csr_array(
        sp.random_array((20, 60), density=0.1, random_state=np.random.default_rng(0))
    )
    spread = propagate(scores, graph, 3)
    for row in range(20):
        before, after = scores[[row]].toarray()[0], spread[[row]].toarray()[0]
        arrived = before @ graph.toarray()
        best = np.argsort(-arrived, kind="stable")[:3]
        expected = before.copy()
        expected[best] += arrived[best]
        np.testing.assert_allclose(after, expected / 2, atol=1e-6)
        assert set(np.flatnonzero(before)) <= set(spread[[row]].indices.tolist())


def test_lists_of_equal_length_find_more():
    """Labels come in groups of four, of which a scorer finds half and confuses some."""
    rng = np.random.default_rng(0)
    y = sp.csr_array(np.kron(np.eye(15), np.ones((20, 4))))
    graph = normalize_degrees(strongest_with_self_loops(RandomWalk().visits(y), 10))
    group = rng.integers(15, size=300)
    truth = np.kron(np.eye(15), np.ones(4))[group] > 0
    noisy = np.where(truth, rng.random((300, 60)) < 0.5, rng.random((300, 60)) < 0.05)
    scores = sp.csr_array(noisy * rng.random((300, 60)).astype(np.float32))

    def recall(lists):
        best = keep_strongest(lists, 4).toarray() > 0
        return (best & truth).sum() / truth.sum()

    assert recall(propagate(scores, graph, 4)) > recall(scores) + 0.1
