import itertools
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import skxc.indices._exact as exact_module
from skxc.indices import ExactIndex
from skxc.ranking import inner_products
from skxc.utils._sparse import top_k


@pytest.fixture(params=["float32", "int8"])
def first_step(request, monkeypatch):
    """Run a test with both kinds of first step, whatever the machine would choose."""
    if request.param == "int8":
        pytest.importorskip("torch")
    monkeypatch.setattr(exact_module, "int8_is_fast", lambda dim: request.param == "int8")
    return request.param


def unit_vectors(n, d, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def build(vectors, **params):
    index = ExactIndex(**params)
    index.add(vectors)
    return index


def test_integers_agree_with_top_k_also_in_ties(first_step):
    rng = np.random.default_rng(0)
    vectors = rng.integers(-2, 3, (200, 4)).astype(np.float32)  # many exact ties
    queries = rng.integers(-2, 3, (50, 4)).astype(np.float32)
    ids, scores = build(vectors).search(queries, 20)
    expected = top_k(queries @ vectors.T, 20)
    np.testing.assert_array_equal(ids, expected[0])
    np.testing.assert_array_equal(scores, expected[1])


def pair_score(vector, query):
    """Return the documented score of a pair, that of a pair alone."""
    return inner_products(query[None], vector[None], np.zeros(1, int), np.zeros(1, int))[0]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_close_scores_are_ranked_by_the_exact_products(first_step, scale):
    """Vectors that differ by less than one eight-bit step."""
    rng = np.random.default_rng(1)
    vectors = (1 + 1e-4 * rng.standard_normal((500, 16))).astype(np.float32) * np.float32(scale)
    queries = rng.standard_normal((20, 16)).astype(np.float32)
    ids, scores = build(vectors).search(queries, 10)
    for query, row, values in zip(queries, ids, scores, strict=True):
        exact = [pair_score(vector, query) for vector in vectors]
        order = sorted(range(500), key=lambda j: (-exact[j], j))[:10]
        np.testing.assert_array_equal(row, order)
        np.testing.assert_array_equal(values, [exact[j] for j in order])


@pytest.mark.parametrize("n_items", [300, 3000])
def test_more_ties_than_there_is_room_for(first_step, n_items):
    """All items but ten score within the error of the first step, most of them alike."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(unit_vectors(1, 16), n_items, axis=0)
    close = rng.choice(n_items, n_items // 3, replace=False)
    vectors[close] *= (1 + 1e-6 * rng.standard_normal((len(close), 1))).astype(np.float32)
    far = rng.choice(n_items, 10, replace=False)
    vectors[far] *= -1
    queries = vectors[[0, 0]] * np.float32([[1], [0]])
    ids, scores = build(vectors, block_shape=(2, 100)).search(queries, 20)
    for query, row, values in zip(queries, ids, scores, strict=True):
        exact = [pair_score(vector, query) for vector in vectors]
        order = sorted(range(n_items), key=lambda j: (-exact[j], j))[:20]
        np.testing.assert_array_equal(row, order)
        np.testing.assert_array_equal(values, [exact[j] for j in order])


def test_vectors_of_very_different_norms(first_step):
    vectors = unit_vectors(300, 8) * np.logspace(-4, 4, 300, dtype=np.float32)[:, None]
    queries = unit_vectors(10, 8, seed=1)
    ids, _ = build(vectors).search(queries, 15)
    truth = np.argsort(-(queries.astype(float) @ vectors.T.astype(float)), axis=1)[:, :15]
    np.testing.assert_array_equal(ids, truth)


def test_block_borders_and_batches_change_nothing(first_step):
    vectors, queries = unit_vectors(101, 33), unit_vectors(23, 33, seed=1)
    vectors[50] = vectors[7]
    vectors[100] = vectors[7]
    reference = build(vectors).search(queries, 12)
    for shape in itertools.product((1, 2, 22, 23, 24), (1, 50, 51, 100, 101, 102)):
        found = build(vectors, block_shape=shape).search(queries, 12)
        np.testing.assert_array_equal(found[0], reference[0])
        np.testing.assert_array_equal(found[1], reference[1])
    index = build(vectors)
    for i, query in enumerate(queries):
        alone = index.search(query[None], 12)
        np.testing.assert_array_equal(alone[0][0], reference[0][i])
        np.testing.assert_array_equal(alone[1][0], reference[1][i])


def test_both_first_steps_agree_bit_for_bit(monkeypatch):
    pytest.importorskip("torch")
    vectors, queries = unit_vectors(700, 48), unit_vectors(40, 48, seed=1)
    results = []
    for fast in (False, True):
        monkeypatch.setattr(exact_module, "int8_is_fast", lambda dim, fast=fast: fast)
        results.append(build(vectors).search(queries, 30))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_equal_vectors_tie_wherever_they_stand(first_step):
    vectors = unit_vectors(97, 19)
    vectors[[3, 40, 64, 95, 96]] = vectors[11]
    ids, scores = build(vectors).search(vectors[11:12], 6)
    np.testing.assert_array_equal(ids, [[3, 11, 40, 64, 95, 96]])
    assert len(set(scores[0].tolist())) == 1


def test_zero_queries_and_zero_vectors(first_step):
    vectors = np.zeros((10, 4), dtype=np.float32)
    vectors[6:] = np.eye(4)
    ids, scores = build(vectors).search([[0, 0, 0, 0], [0, 0, -1, 0], [0, 0, 1, 0]], 3)
    np.testing.assert_array_equal(ids, [[0, 1, 2], [0, 1, 2], [8, 0, 1]])
    np.testing.assert_array_equal(scores, [[0, 0, 0], [0, 0, 0], [1, 0, 0]])


def test_add_and_remove_renew_the_copy(first_step):
    index = build(unit_vectors(20, 5))
    index.search(np.ones((1, 5)), 1)
    index.add(np.full((1, 5), 3.0))
    assert index.search(np.ones((1, 5)), 1)[0][0, 0] == 20
    index.remove([20])
    assert index.search(np.ones((1, 5)), 1)[0][0, 0] != 20


def test_first_array_is_shared_and_never_written():
    vectors = unit_vectors(20, 5)
    before = vectors.copy()
    index = build(vectors)
    assert np.shares_memory(index._vectors, vectors)
    index.add(vectors)
    index.remove([0])
    index.search(vectors, 40)
    np.testing.assert_array_equal(vectors, before)


def test_one_column():
    ids, scores = build(np.array([[2.0], [-1.0], [3.0], [2.0]])).search([[1.0], [-2.0]], 3)
    np.testing.assert_array_equal(ids, [[2, 0, 3], [1, 0, 3]])
    np.testing.assert_array_equal(scores, [[3, 2, 2], [2, -4, -4]])


def test_state_holds_no_torch(first_step):
    index = build(unit_vectors(20, 5))
    index.search(np.ones((1, 5)), 1)
    assert index.__getstate__()["_copy"] is None


def test_memory_does_not_grow_with_queries_times_items(first_step):
    n, n_items, k = 4000, 40_000, 5  # all scores at once would take 640 MB
    index = build(unit_vectors(n_items, 8), block_shape=(64, 8192))
    queries = unit_vectors(n, 8, seed=1)
    index.search(queries[:1], k)
    tracemalloc.start()
    index.search(queries, k)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_search_does_not_import_torch():
    code = (
        "import sys, numpy as np; from skxc.indices import ExactIndex; i = ExactIndex();"
        "i.add(np.eye(4)); i.search(np.eye(4), 2);"
        "raise SystemExit('torch' in sys.modules or 'faiss' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
