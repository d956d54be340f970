"""Two-level scores against dense arithmetic."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import expit

from skxc.estimators._shortlist_ranker import DocumentMap, ShortlistRanker
from skxc.graphs import normalize_degrees

N, L, K, DIM = 6, 12, 4, 5
RNG = np.random.default_rng(0)
LEAF = np.array([0, 1, 2, 3] * 3)
ROWS = RNG.normal(size=(N, DIM)).astype(np.float32)


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def graph(n):
    return normalize_degrees(
        sp.csr_array(RNG.random((n, n)) * (RNG.random((n, n)) < 0.4) + np.eye(n))
    )


PARTS = {
    "membership": sp.csr_array(np.eye(K, dtype=np.float32)[:, LEAF]),
    "cluster_weights": draw(K, DIM),
    "label_weights": draw(L, DIM),
    "cluster_offset": -0.5,
    "label_offset": 0.3,
    "cluster_documents": DocumentMap(draw(DIM, DIM), draw(DIM)),
    "label_documents": DocumentMap(draw(DIM, DIM), draw(DIM)),
}
GRAPHS = {"cluster_graph": graph(K), "label_graph": graph(L)}


def documents(part):
    mapped = ROWS + np.maximum(ROWS, 0) @ PARTS[part].matrix + PARTS[part].offset
    mapped = np.maximum(mapped, 0)
    return mapped / np.maximum(np.linalg.norm(mapped, axis=1, keepdims=True), 1e-12)


def spread(scores, matrix, k):
    arrived = scores @ matrix.toarray()
    cut = -np.sort(-arrived, axis=1)[:, min(k, arrived.shape[1]) - 1, None]
    return (scores + np.where((arrived >= cut) & (arrived > 0), arrived, 0)) / 2


def naive(beam, width, graphs):
    clusters = expit(documents("cluster_documents") @ PARTS["cluster_weights"].T - 0.5)
    cut = -np.sort(-clusters, axis=1)[:, beam - 1, None]
    clusters = np.where(clusters >= cut, clusters, 0)
    if graphs:
        clusters = spread(clusters, GRAPHS["cluster_graph"], beam)
    labels = expit(documents("label_documents") @ PARTS["label_weights"].T + 0.3)
    labels = labels * clusters[:, LEAF]
    cut = -np.sort(-labels, axis=1)[:, width - 1, None]
    labels = np.where(labels >= cut, labels, 0)
    return spread(labels, GRAPHS["label_graph"], width) if graphs else labels


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize(("beam", "width"), [(1, 2), (2, 5), (K, L)])
def test_scores_are_products_of_probabilities(graphs, beam, width):
    member = ShortlistRanker(**PARTS, **(GRAPHS if graphs else {}))
    found = member.score(member.best_clusters(ROWS, beam), ROWS, width)
    np.testing.assert_allclose(found.toarray(), naive(beam, width, graphs), rtol=1e-4, atol=1e-6)


def test_the_power_of_clusters():
    member = ShortlistRanker(**PARTS)
    clusters = member.best_clusters(ROWS, K)
    plain, flat, half = (member.score(clusters, ROWS, L, power=a).toarray() for a in (1, 0, 0.5))
    np.testing.assert_allclose(plain / flat, clusters.toarray()[:, LEAF], rtol=1e-5)
    np.testing.assert_allclose(half, np.sqrt(plain * flat), rtol=1e-5)
    graph = ShortlistRanker(**PARTS, label_graph=GRAPHS["label_graph"])
    np.testing.assert_array_equal(graph.score(clusters, ROWS, L, spread=False).toarray(), plain)


def test_every_cluster_in_the_beam_is_one_against_all():
    member = ShortlistRanker(**PARTS)
    found = member.score(member.best_clusters(ROWS, K), ROWS, L)
    assert (np.diff(found.indptr) == L).all()


def test_propagation_keeps_the_list():
    member, plain = ShortlistRanker(**PARTS, **GRAPHS), ShortlistRanker(**PARTS)
    longer, shorter = (m.best_clusters(ROWS, 2).toarray() > 0 for m in (member, plain))
    assert (longer >= shorter).all()
    assert longer.sum() > shorter.sum()
    identity = ShortlistRanker(**PARTS, cluster_graph=sp.csr_array(sp.eye_array(K)))
    np.testing.assert_allclose(
        identity.best_clusters(ROWS, 2).toarray(), plain.best_clusters(ROWS, 2).toarray()
    )


def test_a_row_alone_has_the_same_scores():
    member = ShortlistRanker(**PARTS, **GRAPHS)
    together = member.score(member.best_clusters(ROWS, 2), ROWS, 4)
    for row in range(N):
        one = ROWS[[row]]
        alone = member.score(member.best_clusters(one, 2), one, 4)
        np.testing.assert_array_equal(alone.toarray(), together[[row]].toarray())


def test_an_index_is_built_once_and_not_pickled():
    member = ShortlistRanker(**PARTS)
    before = len(pickle.dumps(member))
    first, second = (member.best_clusters(ROWS, 2) for _ in range(2))
    assert member._cluster_index is member._cluster_index
    again = pickle.loads(pickle.dumps(member))
    assert len(pickle.dumps(member)) == before
    for found in (second, again.best_clusters(ROWS, 2)):
        np.testing.assert_array_equal(found.toarray(), first.toarray())
