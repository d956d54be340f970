from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

from skxc.negatives import AllLabels, InBatch

RNG = np.random.default_rng(0)


def test_pool_is_the_distinct_positives(y):
    negatives = InBatch()
    negatives.prepare(y)
    pool = negatives.pool(np.array([0, 1]), np.array([9, 2, 9, 4]), RNG)
    assert pool.tolist() == [2, 4, 9]


def test_capacity_keeps_the_most_frequent_and_fills_up(y):
    rows = np.array([0, 1, 2])
    labels = {int(label) for row in rows for label in y.toarray()[row].nonzero()[0]}
    small, large = InBatch(pool_size=2), InBatch(pool_size=29)
    small.prepare(y)
    large.prepare(y)
    assert small.pool(rows, np.array([9, 2, 9, 4, 4]), RNG).tolist() == [4, 9]
    sampled = np.array(sorted(labels)[:2])
    assert set(large.pool(rows, sampled, RNG).tolist()) == labels
    assert InBatch().pool(rows, sampled, RNG).tolist() == sampled.tolist()


def test_never_needs_a_refresh_and_has_no_state(y):
    negatives = InBatch()
    assert not any(negatives.needs_refresh(epoch) for epoch in range(30))
    assert negatives.get_state() == {}
    negatives.set_state({})


def test_parameters(y):
    assert clone(InBatch(clustered=True, pool_size=3)).get_params() == {
        "clustered": True,
        "pool_size": 3,
        "n_positives": None,
        "refresh_every": 5,
    }
    with pytest.raises(ValueError, match="'pool_size' parameter of InBatch"):
        InBatch(pool_size=0).prepare(y)


def test_all_labels(y):
    negatives = AllLabels()
    negatives.prepare(y)
    assert negatives.pool(np.array([0]), np.array([3]), RNG).tolist() == list(range(30))
    assert not negatives.clustered
