import tracemalloc

import numpy as np
import pytest

from skxc.indices import ExactIndex
from skxc.ranking import inner_products, rank_pairs, union_of_lists


def unit(rng, *shape):
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def search(vectors, queries, k):
    index = ExactIndex()
    index.add(vectors)
    return index.search(queries, k)


def test_union_of_lists():
    first, second = np.array([[2, 0, -1], [1, -1, -1]]), np.array([[3, 2], [-1, -1]])
    rows, labels = union_of_lists([first, second], 4)
    assert list(zip(rows.tolist(), labels.tolist(), strict=True)) == [
        (0, 0),
        (0, 2),
        (0, 3),
        (1, 1),
    ]


@pytest.mark.parametrize("d", [1, 3, 16, 100, 257])
@pytest.mark.parametrize("n_pairs", [0, 1, 2, 1000])
def test_inner_products_are_those_of_an_exact_search(d, n_pairs):
    """Bit for bit: a label has one score, whether it was found or voted for."""
    rng = np.random.default_rng(d)
    queries, vectors = unit(rng, 30, d), unit(rng, 40, d)
    rows, labels = rng.integers(30, size=n_pairs), rng.integers(40, size=n_pairs)
    ids, scores = search(vectors, queries, 40)
    table = np.empty((30, 40), np.float32)
    np.put_along_axis(table, ids.astype(np.int64), scores, axis=1)
    products = inner_products(queries, vectors, rows, labels)
    assert products.dtype == np.float32
    np.testing.assert_array_equal(products, table[rows, labels])


def test_inner_products_take_little_memory():
    rng = np.random.default_rng(0)
    vectors = unit(rng, 100, 64)
    rows, labels = rng.integers(100, size=(2, 200_000))
    tracemalloc.start()
    inner_products(vectors, vectors, rows, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000 * 64 * 4 / 2


def test_rank_pairs():
    rng = np.random.default_rng(0)
    rows, labels = np.nonzero(rng.random((6, 10)) < 0.5)
    values = rng.integers(-1, 2, size=len(rows)).astype(np.float32)
    order = rng.permutation(len(rows))
    indices, scores = rank_pairs(rows[order], labels[order], values[order], shape=(6, 3))
    for row in range(6):
        mine = sorted(
            (-v, label) for r, label, v in zip(rows, labels, values, strict=True) if r == row
        )
        expected = [(label, -v) for v, label in mine[:3]] + [(-1, -np.inf)] * (3 - len(mine))
        assert list(zip(indices[row].tolist(), scores[row].tolist(), strict=True)) == expected
