import numpy as np
import pytest
import scipy.sparse as sp

from skxc.indices import ExactIndex
from skxc.ranking import Votes, add_votes, inner_products, neighbor_votes, union_of_lists


def unit(rng, *shape):
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def problem(seed=0, n=7, n_train=20, n_labels=9, d=5):
    """Return queries, label vectors, training rows, their labels (one row without) and weights."""
    rng = np.random.default_rng(seed)
    y = rng.random((n_train, n_labels)) < 0.3
    y[3] = False
    weight = rng.integers(1, 4, size=n_train).astype(np.float32)
    return unit(rng, n, d), unit(rng, n_labels, d), unit(rng, n_train, d), y, weight


def naive_votes(queries, train, y, weight, temperature, neighbors):
    """Return dense votes by loops, for given neighbours of every query."""
    votes = np.zeros((len(queries), y.shape[1]))
    for row, near in enumerate(neighbors):
        near = [j for j in near if j >= 0]
        mass = {j: weight[j] * np.exp(float(queries[row] @ train[j]) / temperature) for j in near}
        for j in near:
            votes[row] += mass[j] / sum(mass.values()) * y[j]
    return votes


def search(vectors, queries, k):
    index = ExactIndex()
    index.add(vectors)
    return index.search(queries, k)


def as_dense(votes, shape):
    dense = np.zeros(shape)
    dense[votes.rows, votes.labels] = votes.values
    return dense


@pytest.mark.parametrize("n_neighbors", [1, 4, 20])
@pytest.mark.parametrize("temperature", [0.02, 0.5])
def test_votes(n_neighbors, temperature):
    queries, _, train, y, weight = problem()
    near, similarity = search(train, queries, n_neighbors)
    votes = neighbor_votes(near, similarity, sp.csr_array(y), weight, temperature)
    expected = naive_votes(queries, train, y, weight, temperature, near)
    np.testing.assert_allclose(as_dense(votes, expected.shape), expected, rtol=1e-4, atol=1e-7)
    keys = votes.rows * y.shape[1] + votes.labels
    assert (np.diff(keys) > 0).all()
    assert votes.values.dtype == np.float32
    assert ((votes.values > 0) & (votes.values <= 1 + 1e-6)).all()


@pytest.mark.filterwarnings("error")
def test_padded_neighbors_do_not_vote():
    queries, _, train, y, weight = problem()
    near, similarity = search(train, queries, 4)
    near, similarity = near.copy(), similarity.copy()
    near[:, 2:], similarity[:, 2:] = -1, -np.inf
    near[5], similarity[5] = -1, -np.inf  # an approximate search may find nothing at all
    votes = neighbor_votes(near, similarity, sp.csr_array(y), weight, 0.1)
    expected = naive_votes(queries, train, y, weight, 0.1, near)
    assert not expected[5].any()
    np.testing.assert_allclose(as_dense(votes, expected.shape), expected, rtol=1e-4, atol=1e-7)


def test_a_weight_is_a_repetition():
    queries, _, train, y, _ = problem()
    weight = np.ones(20, np.float32)
    weight[[2, 7]] = [3, 2]
    rows = np.repeat(np.arange(20), weight.astype(int))
    votes = [
        neighbor_votes(*search(train[r], queries, len(r)), sp.csr_array(y[r]), w, 0.2)
        for r, w in ((np.arange(20), weight), (rows, np.ones(len(rows), np.float32)))
    ]
    np.testing.assert_allclose(
        as_dense(votes[0], (7, 9)), as_dense(votes[1], (7, 9)), rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize("k", [1, 3, 9])
@pytest.mark.parametrize("weight", [0.0, 0.3, 5.0])
def test_best_labels_by_score_and_votes(k, weight):
    queries, labels, train, y, row_weight = problem()
    votes = neighbor_votes(*search(train, queries, 3), sp.csr_array(y), row_weight, 0.2)

    def score_pairs(rows, ids):
        return inner_products(queries, labels, rows, ids)

    indices, scores = add_votes(search(labels, queries, k), votes, weight, score_pairs)
    full = queries @ labels.T + weight * as_dense(votes, (7, 9))
    for row in range(7):
        best = np.argsort(-full[row], kind="stable")[:k]
        assert indices[row].tolist() == best.tolist()
        np.testing.assert_allclose(scores[row], full[row, best], rtol=1e-5, atol=1e-6)


def test_ties_after_votes_go_to_the_lower_label():
    votes = Votes(np.array([0, 0]), np.array([2, 3]), np.array([0.5, 0.25], np.float32))
    found = np.array([[3, 4, 5]]), np.array([[0.75, 0.5, 0.5]], np.float32)
    indices, scores = add_votes(
        found, votes, 1.0, lambda rows, labels: np.full(len(rows), 0.5, np.float32)
    )
    assert indices.tolist() == [[2, 3, 4]]
    assert scores.tolist() == [[1.0, 1.0, 0.5]]


def test_lists_with_holes_keep_their_holes():
    none = Votes(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    found = (
        np.array([[4, -1], [-1, -1]]),
        np.array([[0.5, -np.inf], [-np.inf, -np.inf]], np.float32),
    )

    def score_pairs(rows, labels):
        return np.full(len(rows), 0.1, np.float32)

    indices, scores = add_votes(found, none, 1.0, score_pairs)
    assert indices.tolist() == [[4, -1], [-1, -1]]
    assert scores.tolist() == [[0.5, -np.inf], [-np.inf, -np.inf]]
    some = Votes(np.array([1]), np.array([6]), np.array([0.5], np.float32))
    nothing = np.full((2, 2), -1), np.full((2, 2), -np.inf, np.float32)
    indices, scores = add_votes(nothing, some, 1.0, score_pairs)
    assert indices.tolist() == [[-1, -1], [6, -1]]
    np.testing.assert_allclose(scores[1, 0], 0.6)


def test_labels_beyond_int32_keys():
    # row * n_labels + label does not fit 32 bits.
    n_labels = 2**31 - 1
    votes = Votes(np.array([3]), np.array([n_labels - 1]), np.array([1.0], np.float32))
    found = np.array([[5], [6], [7], [8]], np.int32), np.zeros((4, 1), np.float32)
    indices, _ = add_votes(found, votes, 1.0, lambda r, _: np.zeros(len(r), np.float32))
    assert indices.tolist() == [[5], [6], [7], [n_labels - 1]]
    rows, labels = union_of_lists([found[0], found[0][::-1].copy()], n_labels)
    assert rows.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert labels.tolist() == [5, 8, 6, 7, 6, 7, 5, 8]
