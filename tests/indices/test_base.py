import pickle

import numpy as np
import pytest
from sklearn.base import clone

from skxc.indices import ExactIndex, FaissIndex

KINDS = {
    "exact": ExactIndex(),
    "hnsw": FaissIndex("hnsw"),
    "ivf": FaissIndex("ivf", n_probes=1000),
}


@pytest.fixture(params=list(KINDS))
def index(request):
    return clone(KINDS[request.param])


def naive_search(vectors, queries, k, alive=None):
    """Score one pair after the other, sort (score, id) pairs in plain Python."""
    ids = np.full((len(queries), k), -1)
    scores = np.full((len(queries), k), -np.inf)
    for i, query in enumerate(queries):
        pairs = []
        for j, vector in enumerate(vectors):
            if alive is None or j in alive:
                pairs.append(
                    (-sum(float(a) * float(b) for a, b in zip(query, vector, strict=True)), j)
                )
        for rank, (negated, j) in enumerate(sorted(pairs)[:k]):
            ids[i, rank], scores[i, rank] = j, -negated
    return ids, scores


def assert_same(found, expected):
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-6)


def random_vectors(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def test_search_equals_naive(index):
    vectors, queries = random_vectors(60, 7), random_vectors(9, 7, seed=1)
    ids = index.add(vectors)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, np.arange(60))
    found = index.search(queries, 5)
    assert found[0].dtype == np.int32
    assert found[1].dtype == np.float32
    assert found[0].shape == found[1].shape == (9, 5)
    assert_same(found, naive_search(vectors, queries, 5))


def test_k_larger_than_the_index_is_padded(index):
    vectors, queries = random_vectors(4, 3), random_vectors(2, 3, seed=1)
    index.add(vectors)
    ids, scores = index.search(queries, 7)
    assert_same((ids, scores), naive_search(vectors, queries, 7))
    assert (ids[:, 4:] == -1).all()
    assert (scores[:, 4:] == -np.inf).all()


def test_ties_go_to_the_lower_id(index):
    index.add(np.ones((6, 4), dtype=np.float32))
    ids, scores = index.search(np.ones((1, 4)), 6)
    np.testing.assert_array_equal(ids, [[0, 1, 2, 3, 4, 5]])
    np.testing.assert_array_equal(scores, np.full((1, 6), 4.0))


def test_empty_index(index):
    ids, scores = index.search(np.ones((3, 5)), 2)
    assert (ids == -1).all()
    assert (scores == -np.inf).all()
    assert ids.shape == scores.shape == (3, 2)


def test_no_queries_and_no_vectors(index):
    assert index.add(np.zeros((0, 3))).shape == (0,)
    index.add(np.eye(3))
    ids, scores = index.search(np.zeros((0, 3)), 2)
    assert ids.shape == scores.shape == (0, 2)


def test_remove_then_search(index):
    vectors, queries = random_vectors(50, 6), random_vectors(8, 6, seed=1)
    index.add(vectors)
    removed = [0, 7, 8, 31, 49]
    index.remove(removed)
    index.remove(np.array([12, 12]))
    alive = set(range(50)) - {*removed, 12}
    assert index.n_items == 44
    assert_same(index.search(queries, 50), naive_search(vectors, queries, 50, alive))


def test_ids_are_never_given_again(index):
    vectors = random_vectors(30, 6)
    index.add(vectors[:10])
    index.remove([9, 3])
    np.testing.assert_array_equal(index.add(vectors[10:20]), np.arange(10, 20))
    index.remove(np.arange(10, 20))
    np.testing.assert_array_equal(index.add(vectors[20:]), np.arange(20, 30))
    alive = (set(range(10)) - {9, 3}) | set(range(20, 30))
    queries = random_vectors(5, 6, seed=1)
    assert_same(index.search(queries, 18), naive_search(vectors, queries, 18, alive))


def test_remove_everything_then_add(index):
    vectors = random_vectors(8, 4)
    index.add(vectors[:4])
    index.remove([0, 1, 2, 3])
    assert index.n_items == 0
    assert (index.search(vectors, 2)[0] == -1).all()
    index.add(vectors[4:])
    assert_same(index.search(vectors, 4), naive_search(vectors, vectors, 4, {4, 5, 6, 7}))


@pytest.mark.parametrize("bad", [[5], [-1], [0, 2, 99]])
def test_remove_unknown_ids(index, bad):
    index.add(np.eye(5))
    with pytest.raises(ValueError, match=r"`ids` must be in the index, but -?\d+ is not"):
        index.remove(bad)
    assert index.n_items == 5


def test_remove_twice_or_with_wrong_types(index):
    index.add(np.eye(5))
    index.remove([2])
    index.remove([])
    with pytest.raises(ValueError, match="but 2 is not"):
        index.remove([2])
    with pytest.raises(ValueError, match="must be integers"):
        index.remove([1.0])
    assert index.n_items == 4


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.ones(3), "must have shape"),
        (np.ones((2, 0)), "must have shape"),
        (np.ones((2, 4)), "must have 3 columns"),
        ([[1.0, np.nan, 0.0]], "must be finite"),
        ([[1.0, -np.inf, 0.0]], "must be finite"),
        ([[1.0, 1e39, 0.0]], "must be finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_bad_vectors_leave_the_index_unchanged(index, bad, message):
    index.add(np.eye(3))
    with pytest.raises(ValueError, match=f"`vectors` {message}"):
        index.add(bad)
    with pytest.raises(ValueError, match=f"`queries` {message}"):
        index.search(bad, 1)
    assert index.n_items == 3
    np.testing.assert_array_equal(index.add(np.eye(3)), [3, 4, 5])


def test_k_below_one(index):
    with pytest.raises(ValueError, match="`k` must be at least 1, but is 0"):
        index.search(np.eye(3), 0)


def test_read_only_and_other_dtypes(index):
    vectors, queries = random_vectors(20, 5), random_vectors(4, 5, seed=1)
    for array in (vectors, queries):
        array.flags.writeable = False
    index.add(vectors[:10])
    index.add(np.asfortranarray(vectors[10:], dtype=np.float64))
    index.remove([3])
    alive = set(range(20)) - {3}
    assert_same(index.search(queries, 6), naive_search(vectors, queries, 6, alive))
    assert_same(index.search(queries.tolist(), 6), naive_search(vectors, queries, 6, alive))


def test_clone_is_empty_and_pickle_is_full(index):
    vectors = random_vectors(12, 5)
    index.add(vectors)
    index.remove([4])
    assert clone(index).n_items == 0
    again = pickle.loads(pickle.dumps(index))
    for mine, theirs in zip(again.search(vectors, 6), index.search(vectors, 6), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    again.remove([5])
    assert (again.n_items, index.n_items) == (10, 11)
