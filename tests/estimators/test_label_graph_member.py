"""Two-level scores against dense arithmetic."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import expit

from skxc.estimators._label_graph.member import (
    DocumentMap,
    Scorer,
    SearchSettings,
    ShortlistRanker,
)
from skxc.graphs import normalize_degrees
from skxc.indices import VectorSearch

N, L, K, DIM = 6, 12, 4, 5
RNG = np.random.default_rng(0)
LEAF = np.array([0, 1, 2, 3] * 3)
UNSEEN = np.arange(L) >= 9
ROWS = RNG.normal(size=(N, DIM)).astype(np.float32)


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def graph(n):
    return normalize_degrees(
        sp.csr_array(RNG.random((n, n)) * (RNG.random((n, n)) < 0.7) + np.eye(n))
    )


def scorer(n, offset):
    documents = DocumentMap(draw(DIM, DIM), draw(DIM))
    return Scorer(None, documents, VectorSearch(draw(n, DIM)), offset, graph(n))


MEMBER = ShortlistRanker(
    membership=sp.csr_array(np.eye(K, dtype=np.float32)[:, LEAF]),
    unseen=UNSEEN,
    clusters=scorer(K, -0.5),
    labels=scorer(L, 0.3),
)


def settings(beam_width, width, power=1.0, unseen_weight=0.3, graphs=False):
    return SearchSettings(beam_width, power, width, unseen_weight, graphs, graphs)


def best_clusters(rows, *args, **kwargs):
    return MEMBER.best_clusters(MEMBER.clusters.documents(rows), settings(*args, **kwargs))


def score(rows, clusters, *args, **kwargs):
    return MEMBER.rank(MEMBER.labels.documents(rows), clusters, settings(*args, **kwargs))


def scores(rows, *args, **kwargs):
    return score(rows, best_clusters(rows, *args, **kwargs), *args, **kwargs)


def documents(part):
    matrix, offset = part.documents.matrix, part.documents.offset
    mapped = np.maximum(ROWS + np.maximum(ROWS, 0) @ matrix + offset, 0)
    return mapped / np.maximum(np.linalg.norm(mapped, axis=1, keepdims=True), 1e-12)


def probabilities(part):
    return expit(documents(part) @ part.classifiers.vectors.T + part.offset)


def cut(scores, k):
    return np.where(scores >= -np.sort(-scores, axis=1)[:, k - 1, None], scores, 0)


def spread(scores, matrix, k):
    return (scores + cut(scores @ matrix.toarray(), k)) / 2


def naive(beam_width, width, graphs):
    clusters = cut(probabilities(MEMBER.clusters), beam_width)
    if graphs:
        clusters = spread(clusters, MEMBER.clusters.graph, beam_width)
    unseen_weight = np.where(UNSEEN, 0.3, 1)
    labels = cut(probabilities(MEMBER.labels) * clusters[:, LEAF] * unseen_weight, width)
    return spread(labels, MEMBER.labels.graph, width) if graphs else labels


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize(("beam_width", "width"), [(1, 2), (2, 5), (K, L)])
def test_scores_are_products_of_probabilities(graphs, beam_width, width):
    found = scores(ROWS, beam_width, width, graphs=graphs).toarray()
    np.testing.assert_allclose(found, naive(beam_width, width, graphs), rtol=1e-4, atol=1e-6)


def test_the_power_of_clusters_and_the_weight_of_unseen_labels():
    clusters = best_clusters(ROWS, K, L)
    plain, flat, half = (score(ROWS, clusters, K, L, power=a).toarray() for a in (1, 0, 0.5))
    np.testing.assert_allclose(plain / flat, clusters.toarray()[:, LEAF], rtol=1e-5)
    ranked = score(ROWS, clusters, K, L, unseen_weight=1.0).toarray()
    np.testing.assert_allclose(plain / ranked, np.where(UNSEEN, 0.3, 1) + 0 * plain, rtol=1e-5)
    np.testing.assert_allclose(half, np.sqrt(plain * flat), rtol=1e-5)


def test_every_cluster_in_the_beam_is_one_against_all():
    assert (np.diff(scores(ROWS, K, L).indptr) == L).all()


def test_propagation_keeps_the_list():
    longer, shorter = (
        best_clusters(ROWS, 2, L, graphs=graphs).toarray() for graphs in (True, False)
    )
    assert ((longer > 0) >= (shorter > 0)).all()
    assert (longer > 0).sum() > (shorter > 0).sum()
    identity = replace(MEMBER.clusters, graph=sp.csr_array(sp.eye_array(K)))
    same = replace(MEMBER, clusters=identity).best_clusters(
        identity.documents(ROWS), settings(2, L, graphs=True)
    )
    np.testing.assert_allclose(same.toarray(), shorter)


def test_candidates_are_the_likely_labels_and_their_neighbours():
    clusters = best_clusters(ROWS, 1, L)
    plain = replace(MEMBER, labels=replace(MEMBER.labels, graph=None))
    listed = plain.candidates(clusters, L).toarray() > 0
    np.testing.assert_array_equal(listed, clusters.toarray()[:, LEAF] > 0)
    assert (np.diff(plain.candidates(clusters, 2).indptr) == 2).all()
    reached = clusters.toarray()[:, LEAF] @ MEMBER.labels.graph.toarray() > 0
    found = MEMBER.candidates(clusters, L).toarray() > 0
    np.testing.assert_array_equal(found, listed | reached)
    assert found.sum() > listed.sum()


def test_a_row_alone_has_the_same_scores():
    together = scores(ROWS, 2, 4, graphs=True)
    for row in range(N):
        alone = scores(ROWS[[row]], 2, 4, graphs=True)
        np.testing.assert_array_equal(alone.toarray(), together[[row]].toarray())


def test_an_index_is_not_pickled():
    before = len(pickle.dumps(MEMBER))
    first = scores(ROWS, 2, 4).toarray()
    stored = pickle.dumps(MEMBER)
    assert len(stored) == before
    again = pickle.loads(stored)
    found = again.best_clusters(again.clusters.documents(ROWS), settings(2, 4))
    np.testing.assert_array_equal(
        again.rank(again.labels.documents(ROWS), found, settings(2, 4)).toarray(), first
    )
