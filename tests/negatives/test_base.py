from __future__ import annotations

from collections import Counter

import numpy as np

from skxc.negatives.base import most_frequent, union


def naive_pool(groups, size):
    pool = []
    for number, labels in enumerate(groups):
        if number and size - len(pool) <= min(100, size // 10):
            break
        counts = Counter(label for label in labels if label not in pool)
        ranked = sorted(counts, key=lambda label: (-counts[label], label))
        pool += ranked[: size - len(pool)]
    return sorted(pool)


def test_most_frequent_equals_the_loop():
    rng = np.random.default_rng(0)
    for size in (1, 5, 20, 40, 300):
        groups = [rng.integers(0, 60, 50), rng.integers(0, 60, 30), rng.integers(0, 60, 80)]
        pool = most_frequent(groups, size)
        assert pool.tolist() == naive_pool([g.tolist() for g in groups], size)
        assert len(pool) <= size


def test_slack_keeps_a_later_group_out():
    groups = [np.arange(95), np.arange(200, 300)]
    assert most_frequent(groups, 100).tolist() == list(range(95))
    assert len(most_frequent(groups, 120)) == 120


def test_union_is_sorted_and_unique():
    assert union([np.array([5, 1, 5]), np.array([2, 1])]).tolist() == [1, 2, 5]
    assert union([np.array([], dtype=np.int64)]).dtype == np.int64
