"""Search among the vectors of one model through the clusters of another."""

import numpy as np
import pytest
from sklearn.base import clone

from skxc.indices import ExactIndex, GraphIndex, LabelIndex, make_index


def graph(n_labels=40, n_clusters=5, seed=0, **params):
    """Return an index whose clusters hold consecutive labels; label 0 lives in all of them."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_labels).reshape(n_clusters, -1)
    labels = np.hstack([labels, np.zeros((n_clusters, 1), dtype=int)])
    labels[0, -1] = -1
    weights = rng.random(labels.shape).astype(np.float32) * 0.5 + 0.5
    weights[:, -1] *= labels[:, -1] >= 0
    return LabelIndex(
        cluster_weights=np.zeros((n_clusters, 3), dtype=np.float32),
        cluster_bias=np.zeros(n_clusters, dtype=np.float32),
        edge_labels=labels.astype(np.int32),
        edge_weights=weights,
        n_labels=n_labels,
        **{"beam_width": 2, **params},
    )


def vectors(n=40, seed=1):
    return np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)


def naive_search(structure, items, query, k, width, alive=None):
    edges = structure.to_csr().toarray()
    centers = edges @ items[: edges.shape[1]]
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    beam = np.argsort(-(centers @ query), kind="stable")[:width]
    found = {label for cluster in beam for label in np.flatnonzero(edges[cluster])}
    found |= set(range(edges.shape[1], len(items)))
    found -= set() if alive is None else set(range(len(items))) - alive
    return sorted(found, key=lambda label: (-(items[label] @ query), label))[:k]


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("k", [3, 30])
def test_search_against_a_loop(width, k):
    index = GraphIndex(graph(), beam_width=width)
    index.add(vectors())
    ids, scores = index.search(vectors(6, 2), k)
    assert ids.shape == scores.shape == (6, k)
    for row, query in enumerate(vectors(6, 2)):
        expected = naive_search(graph(), vectors(), query, k, width)
        assert ids[row][ids[row] >= 0].tolist() == expected
        np.testing.assert_allclose(
            scores[row, : len(expected)], vectors()[expected] @ query, rtol=1e-4, atol=1e-5
        )


def test_all_clusters_are_an_exact_search():
    index, exact = GraphIndex(graph(), beam_width=5), ExactIndex()
    for one in (index, exact):
        one.add(vectors())
    np.testing.assert_array_equal(
        index.search(vectors(6, 2), 40)[0], exact.search(vectors(6, 2), 40)[0]
    )


def test_additions_are_always_compared_and_removals_never_found():
    index = GraphIndex(graph())
    index.add(vectors())
    assert index.add(vectors(3, 5)).tolist() == [40, 41, 42]
    index.remove([41, 7])
    everything = np.concatenate([vectors(), vectors(3, 5)])
    alive = set(range(43)) - {41, 7}
    ids, _ = index.search(vectors(6, 2), 10)
    for row, query in enumerate(vectors(6, 2)):
        expected = naive_search(graph(), everything, query, 10, 2, alive)
        assert ids[row][ids[row] >= 0].tolist() == expected


def test_light_edges_are_not_followed():
    structure = graph()
    structure.edge_weights[:, 0] = 0.01
    index = GraphIndex(structure, beam_width=1)
    index.add(vectors())
    lists = index._lists.toarray() > 0
    assert not lists[1, 8]
    assert 8 in index._always


def test_from_the_parameter_of_an_estimator():
    structure = graph()
    assert isinstance(make_index(structure, 40), GraphIndex)
    assert make_index(structure, 40).graph is structure
    assert isinstance(make_index(structure, 41), ExactIndex)
    empty = clone(GraphIndex(structure, beam_width=3))
    assert (empty.beam_width, empty.n_items) == (3, 0)
