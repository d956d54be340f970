import numpy as np
import pytest

from skxc.fusion import collect_candidates
from skxc.fusion._candidates import lowest_scores


def random_lists(rng, n, n_labels, k, n_models):
    """Return padded top-k lists of random lengths; some rows get nothing."""
    lists = []
    for _ in range(n_models):
        labels = np.full((n, k), -1, dtype=np.int32)
        scores = np.full((n, k), -np.inf, dtype=np.float32)
        for row in range(n):
            length = rng.integers(0, k + 1)
            labels[row, :length] = rng.choice(n_labels, size=length, replace=False)
            scores[row, :length] = -np.sort(-rng.normal(size=length))
        lists.append((labels, scores))
    return lists


def naive(lists, floors):
    """Return {(row, label): [(score, rank, found) per model]} by loops."""
    result = {}
    pairs = {
        (row, int(label))
        for labels, _ in lists
        for row in range(len(labels))
        for label in labels[row]
        if label >= 0
    }
    for row, label in pairs:
        entry = []
        for (labels, scores), floor in zip(lists, floors, strict=True):
            own = [int(other) for other in labels[row] if other >= 0]
            if label in own:
                place = own.index(label)
                entry.append((scores[row, place], place, True))
            else:
                entry.append((scores[row, len(own) - 1] if own else floor, len(own), False))
        result[row, label] = entry
    return result


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_models", [1, 3])
def test_union_with_floors(seed, n_models):
    lists = random_lists(np.random.default_rng(seed), 6, 9, 4, n_models)
    floors = np.arange(n_models) - 7.5
    expected = naive(lists, floors)
    found = collect_candidates(lists, 9, floors)
    pairs = list(zip(found.rows.tolist(), found.labels.tolist(), strict=True))
    assert pairs == sorted(expected)
    for at, pair in enumerate(pairs):
        for model, (score, rank, is_found) in enumerate(expected[pair]):
            assert found.scores[at, model] == score
            assert found.ranks[at, model] == rank
            assert found.found[at, model] == is_found
    assert found.n_rows == 6


def test_default_floors_are_the_smallest_scores():
    labels = np.array([[0, 1], [-1, -1]])
    scores = np.array([[3.0, 2.0], [-np.inf, -np.inf]], dtype=np.float32)
    other = (np.array([[-1], [2]]), np.array([[-np.inf], [5.0]], dtype=np.float32))
    nothing = (np.full((2, 1), -1), np.full((2, 1), -np.inf, dtype=np.float32))
    lists = [(labels, scores), other, nothing]
    assert lowest_scores(lists).tolist() == [2, 5, 0]
    found = collect_candidates(lists, 3)
    assert found.labels.tolist() == [0, 1, 2]
    assert found.scores.tolist() == [[3, 5, 0], [2, 5, 0], [2, 5, 0]]


def test_features():
    lists = random_lists(np.random.default_rng(0), 5, 8, 4, 2)
    found = collect_candidates(lists, 8)
    frequency = np.arange(8) ** 2
    features = found.features(frequency)
    assert features.shape == (len(found.rows), 10)
    for at, (row, label) in enumerate(zip(found.rows, found.labels, strict=True)):
        best = found.scores[found.rows == row].max(axis=0)
        expected = [
            *found.scores[at],
            *(found.scores[at] - best),
            *np.log1p(found.ranks[at]),
            *found.found[at],
            found.found[at].sum(),
            np.log1p(frequency[label]),
        ]
        np.testing.assert_allclose(features[at], expected)


def test_scores_are_compared_with_given_ones():
    found = collect_candidates(random_lists(np.random.default_rng(0), 5, 9, 4, 2), 9)
    best = np.arange(10.0).reshape(5, 2)
    below = found.features(np.ones(9), best)[:, 2:4]
    np.testing.assert_array_equal(below, found.scores - best[found.rows])


def test_features_of_nothing():
    nothing = (np.full((2, 3), -1), np.full((2, 3), -np.inf, dtype=np.float32))
    found = collect_candidates([nothing, nothing], 4)
    assert found.features(np.ones(4)).shape == (0, 10)


def test_take_keeps_the_numbers_of_rows():
    found = collect_candidates(random_lists(np.random.default_rng(1), 5, 8, 4, 2), 8)
    kept = found.rows == 3
    part = found.take(kept)
    assert part.n_rows == 5
    assert set(part.rows.tolist()) <= {3}
    np.testing.assert_array_equal(part.scores, found.scores[kept])
    np.testing.assert_array_equal(part.ranks, found.ranks[kept])
    np.testing.assert_array_equal(part.found, found.found[kept])


def test_unseen_labels():
    lists = [(np.array([[0, 2], [1, -1]]), np.array([[2, 1], [1, -np.inf]], dtype=np.float32))]
    found = collect_candidates(lists, 3)
    assert found.labels.tolist() == [0, 2, 1]
    assert found.unseen(np.array([0, 5, 1])).tolist() == [True, False, False]
    # All zero: nothing is known of any label.
    assert not found.unseen(np.zeros(3)).any()
