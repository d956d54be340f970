"""Searches through clusters, against loops over dictionaries."""

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.utils._shortlist import follow_beams, heaviest_clusters, pair_products


def edges(rng, n_clusters=6, n_edges=5, n_labels=12):
    """Return edges of clusters with two to five distinct labels."""
    labels = np.full((n_clusters, n_edges), -1, dtype=np.int32)
    weights = np.zeros((n_clusters, n_edges), dtype=np.float32)
    for cluster in range(n_clusters):
        n = rng.integers(2, n_edges + 1)
        labels[cluster, :n] = rng.choice(n_labels, n, replace=False)
        weights[cluster, :n] = rng.random(n)
    return labels, weights


def beams(rng, n=9, width=3, n_clusters=6):
    clusters = np.stack([rng.choice(n_clusters, width, replace=False) for _ in range(n)])
    clusters[0, 1:] = -1
    return clusters, rng.random((n, width)).astype(np.float32)


def naive_paths(clusters, scores, labels, weights):
    """Return {label: (path, code)} of one row."""
    best = {}
    for place, (cluster, score) in enumerate(zip(clusters, scores, strict=True)):
        if cluster < 0:
            continue
        for edge, label in enumerate(labels[cluster]):
            path = score * weights[cluster, edge]
            if label >= 0 and (label not in best or path > best[label][0]):
                best[int(label)] = (path, place * labels.shape[1] + edge)
    return best


@pytest.mark.parametrize("size", [1, 3, 12, 50])
@pytest.mark.parametrize("seed", range(3))
def test_best_paths_are_those_of_a_loop(seed, size):
    rng = np.random.default_rng(seed)
    labels, weights = edges(rng)
    clusters, scores = beams(rng)
    y = sp.csr_array(rng.random((9, 12)) < 0.3)
    found = follow_beams(clusters, scores, labels, weights, 12, size, y)
    assert found.labels.shape == (9, min(size, 12))
    for row in range(9):
        best = naive_paths(clusters[row], scores[row], labels, weights)
        expected = sorted(best, key=lambda label: (-best[label][0], label))[:size]
        kept = found.labels[row][found.labels[row] >= 0].tolist()
        assert sorted(kept) == sorted(expected)
        positives = y.indices[y.indptr[row] : y.indptr[row + 1]]
        for label, code, relevant in zip(kept, found.codes[row], found.relevant[row], strict=False):
            assert code == best[label][1]
            assert relevant == (label in positives)
        reached = found.reached[y.indptr[row] : y.indptr[row + 1]]
        assert reached.tolist() == [best.get(label, (0, -1))[1] for label in positives.tolist()]


def test_ties_at_the_cut_go_to_the_lower_label():
    labels = np.array([[7, 3, 5, 1]], dtype=np.int32)
    weights = np.ones((1, 4), dtype=np.float32)
    found = follow_beams(np.array([[0]]), np.ones((1, 1), np.float32), labels, weights, 8, 2)
    assert sorted(found.labels[0]) == [1, 3]


def test_a_label_of_several_clusters_keeps_its_best_path():
    labels = np.array([[0, 1], [0, -1]], dtype=np.int32)
    weights = np.array([[0.2, 0.5], [0.9, 0.0]], dtype=np.float32)
    scores = np.array([[1.0, 0.5]], dtype=np.float32)
    found = follow_beams(np.array([[0, 1]]), scores, labels, weights, 2, 2)
    codes = dict(zip(found.labels[0].tolist(), found.codes[0].tolist(), strict=True))
    assert codes == {0: 2, 1: 1}  # 0.45 by the second cluster beats 0.2 by the first


def test_a_label_with_a_path_of_zero_is_reached_all_the_same():
    labels = np.array([[2]], dtype=np.int32)
    y = sp.csr_array([[0, 0, 1]])
    found = follow_beams(
        np.array([[0]]), np.zeros((1, 1), np.float32), labels, np.zeros((1, 1), np.float32), 3, 3, y
    )
    assert found.labels[0].tolist() == [2, -1, -1]
    assert found.reached.tolist() == [0]


def test_a_sample_keeps_positives_and_follows_the_paths():
    n = 4000
    labels = np.arange(40, dtype=np.int32)[None]
    weights = np.where(np.arange(40) < 20, 0.3, 0.1).astype(np.float32)[None]
    clusters, scores = np.zeros((n, 1), dtype=np.int64), np.ones((n, 1), dtype=np.float32)
    y = sp.csr_array((np.ones(n), (np.arange(n), np.full(n, 39))), shape=(n, 40))
    found = follow_beams(clusters, scores, labels, weights, 40, 4, y, seed=3)
    again = follow_beams(clusters, scores, labels, weights, 40, 4, y, seed=3)
    other = follow_beams(clusters, scores, labels, weights, 40, 4, y, seed=4)
    np.testing.assert_array_equal(found.labels, again.labels)
    assert (found.labels != other.labels).any()
    assert (found.labels == 39).any(axis=1).all()
    assert all(len(set(row)) == 4 for row in found.labels.tolist())
    counts = np.bincount(found.labels.ravel(), minlength=40)
    # The first of three draws takes a label of the first half with 0.3 * 20 / 7.9 = 0.76.
    assert counts[:20].sum() / counts[:39].sum() == pytest.approx(0.75, abs=0.02)
    assert counts[:20].std() < 5 * np.sqrt(counts[:20].mean())


def test_sampling_does_not_begin_before_there_is_something_to_leave_out():
    labels = np.array([[4, 2]], dtype=np.int32)
    weights = np.array([[0.5, 0.25]], dtype=np.float32)
    found = follow_beams(
        np.array([[0]]), np.ones((1, 1), np.float32), labels, weights, 5, 2, seed=0
    )
    assert found.labels[0].tolist() == [4, 2]


def test_heaviest_clusters():
    labels = np.array([[0, 1], [1, 2], [2, -1]], dtype=np.int32)
    weights = np.array([[0.4, 0.5], [0.7, 0.3], [0.3, 0.0]], dtype=np.float32)
    assert heaviest_clusters(labels, weights, 4).tolist() == [0, 1, 1, -1]


def test_pair_products():
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(3, 4)).astype(np.float32)
    vectors = rng.normal(size=(5, 4)).astype(np.float32)
    labels = np.array([[0, 4], [2, -1], [-1, 3]], dtype=np.int32)
    products = pair_products(queries, vectors, labels)
    for row, place in np.ndindex(labels.shape):
        label = labels[row, place]
        expected = queries[row] @ vectors[label] if label >= 0 else 0
        assert products[row, place] == pytest.approx(expected, abs=1e-6)
