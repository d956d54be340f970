from __future__ import annotations

import time

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.negatives import membership, sample_positives

ROWS = np.array([7, 3, 5, 0, 7, 39])


def test_none_gives_all_labels_row_by_row(y):
    expected = [label for row in ROWS for label in y.toarray()[row].nonzero()[0]]
    drawn = sample_positives(y, ROWS, None, np.random.default_rng(0))
    assert drawn.tolist() == expected
    assert drawn.dtype == np.int64


@pytest.mark.parametrize("n", [1, 3])
def test_draws_are_labels_of_the_row_without_repetition(y, n):
    drawn = sample_positives(y, ROWS, n, np.random.default_rng(0)).tolist()
    for row in ROWS:
        labels = set(y.toarray()[row].nonzero()[0])
        count = min(n, len(labels))
        own, drawn = drawn[:count], drawn[count:]
        assert len(set(own)) == count
        assert set(own) <= labels
    assert drawn == []


def test_draws_are_uniform():
    y = sp.csr_array(np.array([[1, 0, 1, 1, 0, 1]], dtype=np.float32))
    rng = np.random.default_rng(0)
    draws = [sample_positives(y, np.array([0]), 2, rng) for _ in range(2000)]
    counts = np.bincount(np.concatenate(draws), minlength=6) / 2000
    np.testing.assert_allclose(counts, [0.5, 0, 0.5, 0.5, 0, 0.5], atol=0.05)


def test_draws_repeat_with_the_seed(y):
    a, b, c = (sample_positives(y, ROWS, 2, np.random.default_rng(s)) for s in (1, 1, 2))
    assert a.tolist() == b.tolist()
    assert a.tolist() != c.tolist()


@pytest.mark.parametrize("pool", [[0, 4, 29], [], list(range(30)), [29]])
def test_membership_is_the_dense_slice(y, pool):
    pool = np.array(pool, dtype=np.int64)
    mask = membership(y, ROWS, pool)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, y.toarray()[ROWS][:, pool] > 0)


def test_another_rows_label_is_a_positive_where_it_is_true():
    y = sp.csr_array(np.array([[1, 1, 0], [0, 1, 1]], dtype=np.float32))
    mask = membership(y, np.array([0, 1]), np.array([0, 1]))
    assert mask.tolist() == [[True, True], [False, True]]


def test_no_rows(y):
    rows = np.array([], dtype=np.int64)
    assert sample_positives(y, rows, 2, np.random.default_rng(0)).shape == (0,)
    assert membership(y, rows, np.array([1, 2])).shape == (0, 2)


def test_cost_does_not_follow_the_label_count():
    rng = np.random.default_rng(0)
    columns = np.sort(rng.integers(0, 3_000_000, (2000, 5)), axis=1).ravel()
    y = sp.csr_array(
        (np.ones(10_000, dtype=np.float32), columns, np.arange(0, 10_001, 5)), (2000, 3_000_000)
    )
    rows = rng.permutation(2000)[:500]
    start = time.perf_counter()
    pool = np.unique(sample_positives(y, rows, 1, rng))
    assert membership(y, rows, pool).any(axis=1).all()
    assert time.perf_counter() - start < 1
