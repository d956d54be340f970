"""Nearest neighbours against a sorted cosine matrix."""

import numpy as np

from skxc.graphs import nearest_neighbors


def test_naive_cosines():
    vectors = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = units @ units.T
    np.fill_diagonal(cosine, -np.inf)
    graph = nearest_neighbors(vectors, top_k=3)
    for row in range(40):
        best = [j for j in np.argsort(-cosine[row])[:3] if cosine[row, j] > 0]
        start, stop = graph.indptr[row], graph.indptr[row + 1]
        assert sorted(best) == graph.indices[start:stop].tolist()
        np.testing.assert_allclose(graph.data[start:stop], cosine[row, sorted(best)], atol=1e-6)


def test_few_vectors_and_equal_ones():
    graph = nearest_neighbors(np.ones((3, 2), dtype=np.float32), top_k=10)
    np.testing.assert_allclose(graph.toarray(), 1 - np.eye(3), atol=1e-6)


def test_opposite_vectors_are_no_neighbours():
    assert nearest_neighbors(np.array([[1.0, 0], [-1, 0]])).nnz == 0
