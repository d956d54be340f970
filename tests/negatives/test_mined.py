from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone

from skxc.negatives import Mined


def exact_search(queries, labels, k):
    scores = queries @ labels.T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(scores, order, axis=1)


def padded_search(queries, labels, k):
    ids, scores = exact_search(queries, labels, k)
    ids[:, -2:] = -1
    return ids, scores


def vectors(seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((40, 8)), rng.standard_normal((30, 8))


def mined(y, excluded_pairs=None, search=exact_search, seed=0, **parameters):
    negatives = Mined(**parameters)
    negatives.prepare(y, excluded_pairs)
    negatives.refresh(*vectors(seed), search)
    return negatives


def naive_lists(y, depth, n_kept=None, excluded_pairs=None, search=exact_search):
    ids = search(*vectors(), depth)[0]
    lists = []
    for i in range(40):
        kept = [int(j) for j in ids[i] if j >= 0 and not y[i, j]]
        if excluded_pairs is not None:
            kept = [j for j in kept if not excluded_pairs[i, j]]
        lists.append(kept[:n_kept])
    return lists


def lists_of(negatives):
    return [[int(j) for j in row if j >= 0] for row in negatives.get_state()["candidates"]]


@pytest.mark.parametrize("search", [exact_search, padded_search])
@pytest.mark.parametrize(("depth", "n_kept"), [(10, None), (10, 4), (100, None)])
def test_lists_equal_the_loop(y, search, depth, n_kept):
    negatives = mined(y, search=search, depth=depth, n_kept=n_kept)
    assert lists_of(negatives) == naive_lists(y.toarray(), min(depth, 30), n_kept, search=search)


def test_own_positives_leave_before_the_list_is_cut(y):
    negatives = mined(y, depth=30, n_kept=5)
    lengths = [len(labels) for labels in lists_of(negatives)]
    assert lengths == [0 if row == 5 else 5 for row in range(40)]
    assert negatives.n_empty_ == 1


def test_excluded_pairs_are_never_mined(y):
    excluded = sp.csr_array(np.random.default_rng(9).random((40, 30)) < 0.3)
    negatives = mined(y, excluded, depth=12)
    expected = naive_lists(y.toarray(), 12, excluded_pairs=excluded.toarray())
    assert lists_of(negatives) == expected
    assert lists_of(negatives) != lists_of(mined(y, depth=12))


def test_blocks_give_the_same_lists(y, monkeypatch):
    expected = lists_of(mined(y))
    monkeypatch.setattr("skxc.negatives._mined._BLOCK", 7)
    assert lists_of(mined(y)) == expected


def test_before_the_first_refresh_the_pool_is_the_positives(y):
    negatives = Mined()
    negatives.prepare(y)
    pool = negatives.pool(np.array([0, 1]), np.array([9, 2, 9]), np.random.default_rng(0))
    assert pool.tolist() == [2, 9]
    assert negatives.n_empty_ == 40


def test_drawn_labels_come_from_the_lists_without_replacement(y):
    negatives = mined(y, depth=8, n_negatives=3)
    lists = lists_of(negatives)
    for seed in range(20):
        drawn = negatives.pool(
            np.array([4]), np.array([], dtype=np.int64), np.random.default_rng(seed)
        )
        assert len(drawn) == min(3, len(lists[4]))
        assert set(drawn.tolist()) <= set(lists[4])


def test_every_candidate_is_drawn_equally_often(y):
    negatives = mined(y, depth=10)
    rng = np.random.default_rng(0)
    nothing = np.array([], dtype=np.int64)
    drawn = np.concatenate([negatives.pool(np.array([4]), nothing, rng) for _ in range(2000)])
    candidates = lists_of(negatives)[4]
    counts = np.bincount(drawn, minlength=30)[candidates] / 2000
    np.testing.assert_allclose(counts, 1 / len(candidates), atol=0.04)


def test_pool_joins_positives_and_mined_labels_of_all_rows(y):
    negatives = mined(y, n_negatives=30)
    rows = np.array([0, 4])
    pool = negatives.pool(rows, np.array([11]), np.random.default_rng(0))
    lists = lists_of(negatives)
    assert set(pool.tolist()) == {11, *lists[0], *lists[4]}
    assert (np.diff(pool) > 0).all()


def test_capacity_puts_positives_first(y):
    negatives = mined(y, n_negatives=5, pool_size=6)
    positives = np.array([1, 2, 3, 4])
    pool = negatives.pool(np.arange(20), positives, np.random.default_rng(0))
    assert len(pool) == 6
    assert set(positives) <= set(pool)


def test_unsampled_positives_fill_the_pool(y):
    rows, sampled = np.arange(3), np.array([1])
    own = set(y[rows].indices.tolist())
    pools = []
    for pool_size in (29, None):
        negatives = mined(y, n_negatives=1, pool_size=pool_size)
        pools.append(set(negatives.pool(rows, sampled, np.random.default_rng(0)).tolist()))
    assert pools[0] == pools[1] | own
    assert len(pools[1]) <= 4


def test_mined_labels_score_far_above_random_ones_and_change_with_the_model(y):
    negatives = mined(y, depth=10)
    queries, labels = vectors()
    scores = queries @ labels.T
    best = [scores[i, j] for i, row in enumerate(lists_of(negatives)) for j in row]
    assert np.mean(best) > scores.mean() + scores.std()
    before = lists_of(negatives)
    negatives.refresh(*vectors(seed=1), exact_search)
    assert lists_of(negatives) != before


def test_refresh_epochs():
    due = [epoch for epoch in range(12) if Mined(refresh_every=4).needs_refresh(epoch)]
    assert due == [4, 8]


def test_state_round_trip(y):
    negatives = mined(y)
    other = Mined()
    other.prepare(y)
    other.set_state(negatives.get_state())
    arguments = np.arange(10), np.array([0])
    a = negatives.pool(*arguments, np.random.default_rng(3))
    b = other.pool(*arguments, np.random.default_rng(3))
    assert a.tolist() == b.tolist()
    assert other.n_empty_ == negatives.n_empty_


def test_a_clone_has_nothing_mined(y):
    copy = clone(mined(y, depth=7))
    assert copy.depth == 7
    assert not hasattr(copy, "n_empty_")


def test_bad_parameters_are_refused(y):
    with pytest.raises(ValueError, match="'depth' parameter of Mined"):
        Mined(depth=0).prepare(y)
