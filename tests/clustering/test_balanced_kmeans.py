from __future__ import annotations

import math
import time

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.clustering import _levels, balanced_kmeans
from skxc.clustering._balanced_kmeans import _two_random_rows


def blobs(n_blobs=8, size=20, d=16, noise=0.05, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.standard_normal((d, d)))[0][:n_blobs]
    rows = np.repeat(centres, size, axis=0) + noise * rng.standard_normal((n_blobs * size, d))
    return rng.permutation(rows)


def naive_split(vectors, first, second):
    """Upper half of one balanced 2-means split from two given rows, with Python lists."""

    def unit(v):
        length = math.sqrt(sum(x * x for x in v))
        return [x / length for x in v]

    def dot(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    rows = [unit(v) for v in vectors.tolist()]
    upper_centroid, lower_centroid = rows[first], rows[second]
    best = -math.inf
    while True:
        gains = [dot(v, upper_centroid) - dot(v, lower_centroid) for v in rows]
        ranked = sorted(range(len(rows)), key=gains.__getitem__)
        half = len(rows) // 2
        lower, upper = ranked[: len(rows) - half], ranked[len(rows) - half :]
        upper_centroid = unit([sum(c) for c in zip(*(rows[i] for i in upper), strict=True)])
        lower_centroid = unit([sum(c) for c in zip(*(rows[i] for i in lower), strict=True)])
        mean = sum(dot(rows[i], upper_centroid) for i in upper) / len(rows)
        mean += sum(dot(rows[i], lower_centroid) for i in lower) / len(rows)
        if mean - best < 1e-4:
            return set(upper)
        best = mean


@pytest.mark.parametrize(("n", "seed"), [(40, 0), (41, 1), (7, 2), (2, 3)])
def test_one_split_equals_the_loop(n, seed):
    vectors = np.random.default_rng(seed).standard_normal((n, 5))
    first, second = np.argsort(np.random.default_rng(seed).random(n))[:2]
    leaf = balanced_kmeans(vectors, n_clusters=2, rng=np.random.default_rng(seed))
    assert set(np.flatnonzero(leaf == 1)) == naive_split(vectors, first, second)


def test_the_first_centroids_are_two_different_rows_and_no_empty_place():
    present = np.array([[True, True, False], [False, True, True], [True, True, True]])
    for seed in range(20):
        first, second = _two_random_rows(present, np.random.default_rng(seed))
        assert first.sum(axis=1).tolist() == second.sum(axis=1).tolist() == [1, 1, 1]
        assert (first * second).sum() == 0
        assert ((first + second)[~present] == 0).all()


@pytest.mark.parametrize("n", [1, 2, 3, 5, 31, 32, 33, 100, 257])
@pytest.mark.parametrize("max_leaf_size", [1, 2, 3, 8, 300])
def test_leaves_partition_the_rows_evenly(n, max_leaf_size):
    vectors = np.random.default_rng(0).standard_normal((n, 4))
    leaf = balanced_kmeans(vectors, max_leaf_size=max_leaf_size, rng=np.random.default_rng(0))
    sizes = np.bincount(leaf)
    assert leaf.shape == (n,)
    assert sizes.sum() == n
    assert sizes.max() - sizes.min() <= 1
    assert sizes.min() >= 1
    assert sizes.max() <= max_leaf_size
    assert max_leaf_size == 1 or 2 * sizes.max() + 1 > min(n, max_leaf_size)


@pytest.mark.parametrize("n_clusters", [1, 2, 16])
def test_number_of_clusters(n_clusters):
    vectors = np.random.default_rng(0).standard_normal((19, 4))
    leaf = balanced_kmeans(vectors, n_clusters=n_clusters, rng=np.random.default_rng(0))
    assert np.unique(leaf).tolist() == list(range(n_clusters))


@pytest.mark.parametrize("n", [64, 101])
def test_sparse_equals_dense(n):
    dense = sp.random_array((n, 50), density=0.2, random_state=np.random.default_rng(0)).toarray()
    dense[5] = 0
    a = balanced_kmeans(dense, max_leaf_size=5, rng=np.random.default_rng(1))
    b = balanced_kmeans(sp.csr_array(dense), max_leaf_size=5, rng=np.random.default_rng(1))
    assert a.tolist() == b.tolist()


@pytest.mark.parametrize("most", [1, 30, 200])
def test_parts_of_a_sparse_level_change_nothing(monkeypatch, most):
    vectors = sp.random_array(
        (101, 50), density=0.2, random_state=np.random.default_rng(0), format="csr"
    )
    whole = balanced_kmeans(vectors, max_leaf_size=5, rng=np.random.default_rng(1))
    monkeypatch.setattr(_levels, "MAX_ENTRIES", most)
    parts = balanced_kmeans(vectors, max_leaf_size=5, rng=np.random.default_rng(1))
    assert whole.tolist() == parts.tolist()


@pytest.mark.parametrize(("most", "runs"), [(0, 5), (4, 4), (6, 3), (99, 1)])
def test_runs_cover_all_nodes(most, runs):
    edges = np.array([0, 3, 3, 7, 8, 20])
    found = list(_levels._runs(edges, most))
    assert [begin for begin, _ in found] == [0, *(end for _, end in found[:-1])]
    assert found[-1][1] == 5
    assert all(end - begin == 1 or edges[end] - edges[begin] <= most for begin, end in found)
    assert len(found) == runs


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
def test_clusters_are_tighter_than_random_and_find_blobs(make):
    vectors = blobs()
    leaf = balanced_kmeans(make(vectors), n_clusters=8, rng=np.random.default_rng(0))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit.T
    same = leaf[:, None] == leaf[None, :]
    assert cosine[same].mean() > 0.6
    assert cosine[same].mean() > cosine[~same].mean() + 0.5


def test_only_the_direction_of_a_row_matters():
    vectors = blobs()
    scale = np.random.default_rng(4).uniform(0.5, 20, (len(vectors), 1))
    a = balanced_kmeans(vectors, max_leaf_size=10, rng=np.random.default_rng(0))
    b = balanced_kmeans(scale * vectors, max_leaf_size=10, rng=np.random.default_rng(0))
    assert a.tolist() == b.tolist()


def test_siblings_are_halves_of_one_parent():
    vectors = blobs()
    fine = balanced_kmeans(vectors, n_clusters=8, rng=np.random.default_rng(0))
    coarse = balanced_kmeans(vectors, n_clusters=4, rng=np.random.default_rng(0))
    assert (fine // 2).tolist() == coarse.tolist()


def test_repeats_with_the_seed_and_leaves_the_input_alone():
    vectors = blobs()
    before = vectors.copy()
    runs = [balanced_kmeans(vectors, n_clusters=8, rng=np.random.default_rng(s)) for s in (0, 0, 1)]
    assert runs[0].tolist() == runs[1].tolist()
    assert runs[0].tolist() != runs[2].tolist()
    np.testing.assert_array_equal(vectors, before)


def test_equal_rows_and_zero_rows_are_still_balanced():
    leaf = balanced_kmeans(np.zeros((10, 3)), n_clusters=4, rng=np.random.default_rng(0))
    assert sorted(np.bincount(leaf)) == [2, 2, 3, 3]


def test_no_rows():
    assert balanced_kmeans(
        np.empty((0, 3)), max_leaf_size=4, rng=np.random.default_rng(0)
    ).shape == (0,)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({}, "exactly one"),
        ({"n_clusters": 2, "max_leaf_size": 3}, "exactly one"),
        ({"n_clusters": 3}, "power of two of at most 160"),
        ({"n_clusters": 256}, "power of two of at most 160"),
        ({"n_clusters": 0}, "power of two"),
        ({"max_leaf_size": 0}, "at least 1"),
    ],
)
def test_bad_sizes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        balanced_kmeans(blobs(), rng=np.random.default_rng(0), **sizes)


def test_twenty_thousand_rows_take_a_moment():
    vectors = np.random.default_rng(0).standard_normal((20_000, 64)).astype(np.float32)
    start = time.process_time()
    balanced_kmeans(vectors, max_leaf_size=4, rng=np.random.default_rng(0))
    assert time.process_time() - start < 10
