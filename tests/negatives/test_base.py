from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from sklearn.base import clone

from skxc._params import PositiveInt, params
from skxc.negatives import AllLabels, InBatch, Mined, Negatives, make_negatives
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


def test_slack_keeps_a_later_group_out():
    groups = [np.arange(95), np.arange(200, 300)]
    rng = np.random.default_rng(0)
    assert fill_pool(groups, 100, rng).tolist() == list(range(95))
    assert len(fill_pool(groups, 120, rng)) == 120


def test_a_source_of_your_own(y):
    class First(Negatives):
        def pool(self, rows, positives, rng):
            return union([positives[:1], np.arange(3)])

    @params
    class Some(Negatives):
        n_random: PositiveInt = 3

        def pool(self, rows, positives, rng):
            more = rng.choice(self._y.shape[1], self.n_random, replace=False)
            return union([positives, more])

    first = clone(First(n_positives=2))
    first.prepare(y)
    assert first.pool(np.arange(4), np.array([7, 9]), None).tolist() == [0, 1, 2, 7]
    assert (first.n_positives, first.refresh_every, first.clustered) == (2, 5, False)
    some = make_negatives(Some(n_random=6))
    some.prepare(y)
    assert len(some.pool(np.arange(4), np.array([], int), np.random.default_rng(0))) == 6
    with pytest.raises(ValueError, match="'n_random' parameter of Some"):
        Some(n_random=0).prepare(y)
    with pytest.raises(TypeError, match="abstract"):
        Negatives()


@pytest.mark.parametrize("kind", [AllLabels, InBatch, Mined])
@pytest.mark.parametrize("name", ["n_positives", "refresh_every"])
def test_parameters_of_every_source(kind, name, y):
    with pytest.raises(ValueError, match=f"'{name}' parameter of {kind.__name__}"):
        kind(**{name: 0}).prepare(y)
    with pytest.raises(TypeError, match="fil"):
        kind(fil=True)
    assert f"{name} : int" in kind.__doc__


def test_union_is_sorted_and_unique():
    assert union([np.array([5, 1, 5]), np.array([2, 1])]).tolist() == [1, 2, 5]
    assert union([np.array([], dtype=np.int64)]).dtype == np.int64
