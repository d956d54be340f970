from __future__ import annotations

from collections import Counter

import numpy as np

from skxc.negatives.base import fill_pool, union


def assert_filled_as_by_a_loop(pool, groups, size):
    """Go through the groups; in each, no label left out was given more often than one taken."""
    places, left, before = size, set(pool), set()
    for number, labels in enumerate(groups):
        if number and places <= min(100, size // 10):
            break
        counts = Counter(label for label in labels if label not in before)
        taken = {label for label in counts if label in left}
        assert len(taken) == min(places, len(counts))
        if len(taken) < len(counts):
            assert min(counts[label] for label in taken) >= max(
                counts[label] for label in counts if label not in taken
            )
        left -= taken
        places -= len(taken)
        before = set(pool) - left
    assert not left, "nothing else is in the pool"


def test_the_most_frequent_labels_fill_a_pool():
    rng = np.random.default_rng(0)
    for size in (1, 5, 20, 40, 300):
        groups = [rng.integers(0, 60, 50), rng.integers(0, 60, 30), rng.integers(0, 60, 80)]
        pool = fill_pool(groups, size, rng)
        assert pool.tolist() == sorted(set(pool.tolist()))
        assert len(pool) <= size
        assert_filled_as_by_a_loop(pool.tolist(), [g.tolist() for g in groups], size)


def test_ties_are_decided_at_random():
    """A rule by id would always leave out the same labels."""
    rng = np.random.default_rng(0)
    pools = [fill_pool([np.array([7, 7, 1, 2, 3, 4])], 3, rng) for _ in range(600)]
    counts = np.bincount(np.concatenate(pools), minlength=8) / 600
    assert counts[7] == 1
    np.testing.assert_allclose(counts[1:5], 0.5, atol=0.08)


def test_random_labels_may_stay_instead_of_the_frequent_ones():
    rng = np.random.default_rng(0)
    pools = [fill_pool([np.array([7, 7, 7, 1, 2])], 1, rng, "random") for _ in range(600)]
    np.testing.assert_allclose(
        np.bincount(np.concatenate(pools))[[1, 2, 7]] / 600, 1 / 3, atol=0.08
    )


def test_slack_keeps_a_later_group_out():
    groups = [np.arange(95), np.arange(200, 300)]
    rng = np.random.default_rng(0)
    assert fill_pool(groups, 100, rng).tolist() == list(range(95))
    assert len(fill_pool(groups, 120, rng)) == 120


def test_union_is_sorted_and_unique():
    assert union([np.array([5, 1, 5]), np.array([2, 1])]).tolist() == [1, 2, 5]
    assert union([np.array([], dtype=np.int64)]).dtype == np.int64
