import numpy as np
import scipy.sparse as sp

from skxc.graphs import (
    RandomWalk,
    cluster_graph,
    correlation_graph,
    strongest_with_self_loops,
    without_columns,
)
from tests.graphs.test_walk import toy


def test_labels_left_out_have_a_self_loop_only():
    y = toy()
    heads = np.asarray(y.sum(axis=0)) > 14
    assert 3 < heads.sum() < 50
    rest = without_columns(y, heads)
    assert (rest.toarray() == y.toarray() * ~heads).all()
    graph = strongest_with_self_loops(RandomWalk().visits(rest), 10).toarray()
    np.testing.assert_array_equal(graph[heads], np.eye(60)[heads])
    np.testing.assert_array_equal(graph[:, heads], np.eye(60)[:, heads])


def test_strongest_edges_and_the_diagonal():
    visits = RandomWalk(width=60).visits(toy())
    graph = strongest_with_self_loops(visits, 4)
    assert np.diff(graph.indptr).max() <= 5
    dense, kept = visits.toarray(), graph.toarray()
    for label in range(60):
        best = set(np.argsort(-dense[label], kind="stable")[:4]) | {label}
        stored = set(np.flatnonzero(kept[label]))
        assert stored == {m for m in best if dense[label, m] > 0} | {label}
        assert all(kept[label, m] == dense[label, m] for m in stored - {label})
    assert (kept.diagonal() > 0).all()


def test_a_missing_diagonal_becomes_1():
    graph = strongest_with_self_loops(sp.csr_array(np.array([[0.0, 3], [2, 5]])), 1)
    assert graph.toarray().tolist() == [[1, 3], [0, 5]]


def test_unlike_labels_lose_their_edge():
    vectors = np.array([[2.0, 0], [1, 1], [-1, 0.1], [0, 0]])
    visits = sp.csr_array(np.ones((4, 4)))
    cosine = np.array([[1, 0.5**0.5, -0.995, 0], [0.5**0.5, 1, -0.633, 0]])
    for distance in (0.2, 1.0, 1.7):
        kept = correlation_graph(visits, 4, vectors=vectors, max_distance=distance).toarray()
        np.testing.assert_array_equal(kept[:2], 1 - cosine <= distance)
    assert correlation_graph(visits, 2).toarray().sum(axis=1).tolist() == [2, 2, 3, 3]


def test_graph_between_clusters():
    graph = sp.csr_array(np.random.default_rng(0).random((6, 6)))
    membership = sp.csr_array(
        np.array([[1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 1, 0], [0, 0, 0, 1, 0, 1]])
    )
    between = cluster_graph(membership, graph, 3).toarray()
    for a in range(3):
        for b in range(3):
            mine, theirs = membership[[a]].indices, membership[[b]].indices
            np.testing.assert_allclose(between[a, b], graph.toarray()[np.ix_(mine, theirs)].sum())
    assert (np.diff(cluster_graph(membership, graph, 1).indptr) <= 2).all()
