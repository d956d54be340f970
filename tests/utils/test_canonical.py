import itertools

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.utils import _canonical
from skxc.utils._canonical import canonical_rows


def content(parts, rows):
    """Return the rows of all parts as tuples."""
    cells = [part.toarray() if sp.issparse(part) else part[:, None] for part in parts]
    return [tuple(tuple(cell[row]) for cell in cells) for row in rows]


def naive(parts, weight):
    """Return {row content: sum of weights} by a loop."""
    total = {}
    for row, key in enumerate(content(parts, range(len(weight)))):
        if weight[row] > 0:
            total[key] = total.get(key, 0) + weight[row]
    return total


def random_parts(seed, n=40):
    rng = np.random.default_rng(seed)
    X = sp.csr_array(rng.integers(0, 2, size=(n, 3)).astype(np.float32))
    y = sp.csr_array(rng.integers(0, 2, size=(n, 2)).astype(np.float32))
    texts = np.array([str(value) for value in rng.integers(0, 3, size=n)], dtype=object)
    return [X, y, texts]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_equal_rows_are_merged(count):
    parts = random_parts(0)[:count]
    weight = np.random.default_rng(1).integers(0, 3, size=40).astype(float)
    rows, merged = canonical_rows(parts, weight)
    assert dict(zip(content(parts, rows), merged, strict=True)) == naive(parts, weight)
    assert len(rows) == len(naive(parts, weight))


def test_the_order_of_rows_is_forgotten():
    parts, weight = random_parts(2), np.random.default_rng(3).random(40)
    shuffled = np.random.default_rng(4).permutation(40)
    rows, merged = canonical_rows(parts, weight)
    again, merged_again = canonical_rows([part[shuffled] for part in parts], weight[shuffled])
    assert content(parts, rows) == content(parts, shuffled[again])
    np.testing.assert_array_equal(merged, merged_again)


def test_ties_tell_rows_apart_and_move_no_other():
    X, y, _ = random_parts(5)
    weight = np.random.default_rng(6).random(40)
    numbers = sp.csr_array(np.arange(40, dtype=np.float32)[:, None])
    rows, kept = canonical_rows([X, y], weight, ties=[numbers])
    assert sorted(rows) == list(range(40))
    np.testing.assert_array_equal(kept, weight[rows])
    plain, _ = canonical_rows([X, y], weight)
    ordered = content([X, y], rows)
    assert list(dict.fromkeys(ordered)) == content([X, y], plain)
    assert [key for key, _ in itertools.groupby(ordered)] == content([X, y], plain)


def test_equal_ties_merge_and_their_order_is_forgotten():
    X, y, _ = random_parts(7)
    ties = sp.csr_array(np.random.default_rng(8).integers(0, 2, size=(40, 1)).astype(np.float32))
    weight = np.random.default_rng(9).random(40)
    rows, kept = canonical_rows([X, y], weight, ties=[ties])
    assert len(rows) == len(naive([X, y, ties], weight))
    shuffled = np.random.default_rng(10).permutation(40)
    again, kept_again = canonical_rows(
        [X[shuffled], y[shuffled]], weight[shuffled], ties=[ties[shuffled]]
    )
    assert content([X, y, ties], rows) == content([X, y, ties], shuffled[again])
    np.testing.assert_array_equal(kept, kept_again)


def test_the_order_of_many_weights_is_forgotten():
    same = [sp.csr_array(np.ones((100, 1), dtype=np.float32))]
    weight = np.full(100, 1e-16)
    weight[0] = 1
    first, second = (canonical_rows(same, w)[1].item() for w in (weight, weight[::-1]))
    assert first == second == pytest.approx(1 + 99e-16, abs=1e-15)


def test_the_order_is_not_that_of_the_content():
    X = sp.csr_array(np.arange(1, 201, dtype=np.float32)[:, None])
    rows, _ = canonical_rows([X], np.ones(200))
    assert abs(np.corrcoef(rows, np.arange(200))[0, 1]) < 0.2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([[1, 0], [0, 0]], [[0, 1], [0, 0]]),  # another column
        ([[1, 0], [0, 0]], [[2, 0], [0, 0]]),  # another value
        ([[1, 2], [0, 0]], [[2, 1], [0, 0]]),  # values exchanged
        ([[1, 0], [1, 0]], [[2, 0], [0, 0]]),  # the same sum
    ],
)
def test_small_differences_count(first, second):
    X = sp.csr_array(np.array([np.ravel(first), np.ravel(second)], dtype=np.float32))
    assert len(canonical_rows([X], np.ones(2))[0]) == 2


def test_parts_do_not_mix():
    a = sp.csr_array(np.array([[1, 0], [0, 1]], dtype=np.float32))
    assert len(canonical_rows([a, a[[1, 0]]], np.ones(2))[0]) == 2


def test_empty_rows_are_rows():
    rows, weight = canonical_rows([sp.csr_array((3, 2), dtype=np.float32)], np.array([1.0, 2, 3]))
    assert len(rows) == 1
    assert weight.tolist() == [6]


def test_blocks_of_rows_change_nothing(monkeypatch):
    parts = random_parts(0)
    whole = canonical_rows(parts, np.ones(40))
    monkeypatch.setattr(_canonical, "BLOCK_ROWS", 7)
    for a, b in zip(whole, canonical_rows(parts, np.ones(40)), strict=True):
        np.testing.assert_array_equal(a, b)
