import numpy as np
import pytest
import scipy.sparse as sp

from skxc.utils import _sparse
from skxc.utils._sparse import (
    _rows_of_similar_length,
    drop_pairs,
    index_dtype,
    normalize_rows,
    pack_topk,
    pair_ids,
    rank_rows,
    ranked_positions,
    row_ids,
    top_k,
)


def random_scores(seed=0, n=12, m=9):
    """Return CSR scores with ties, stored zeros, negative values, and an empty and a full row."""
    rng = np.random.default_rng(seed)
    stored = rng.random((n, m)) < 0.5
    stored[2], stored[4] = False, True
    rows, columns = np.nonzero(stored)
    values = rng.integers(-2, 3, size=len(rows)).astype(np.float32)
    order = rng.permutation(len(rows))
    return sp.csr_array(sp.coo_array((values[order], (rows[order], columns[order])), shape=(n, m)))


def stored_entries(matrix, row):
    inside = slice(matrix.indptr[row], matrix.indptr[row + 1])
    return list(zip(matrix.indices[inside].tolist(), matrix.data[inside].tolist(), strict=True))


def naive_rank(entries, k):
    best = sorted(entries, key=lambda entry: (-entry[1], entry[0]))[:k]
    return best + [(-1, -np.inf)] * (k - len(best))


def test_row_ids_and_pair_ids():
    matrix = random_scores()
    rows = [row for row in range(12) for _ in stored_entries(matrix, row)]
    assert row_ids(matrix).tolist() == rows
    assert pair_ids(matrix).tolist() == [
        row * 9 + column for row in range(12) for column, _ in stored_entries(matrix, row)
    ]


def test_pairs_beyond_int32_are_different():
    matrix = sp.csr_array(([1, 1], ([0, 40_000], [5, 5])), shape=(50_000, 100_000))
    assert pair_ids(matrix).tolist() == [5, 40_000 * 100_000 + 5]


@pytest.mark.parametrize("k", [1, 3, 9, 15])
def test_rank_rows(k):
    matrix = random_scores()
    indices, scores = rank_rows(matrix, k)
    assert (indices.dtype, scores.dtype) == (np.int32, np.float32)
    for row in range(12):
        found = list(zip(indices[row].tolist(), scores[row].tolist(), strict=True))
        assert found == naive_rank(stored_entries(matrix, row), k)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("depth", [1, 3, 20])
def test_ranked_positions_against_sorting(seed, depth):
    scores = random_scores(seed).sorted_indices()
    at = ranked_positions(scores, depth)
    assert at.shape == (12, depth)
    for row in range(12):
        labels = [int(scores.indices[position]) for position in at[row] if position >= 0]
        expected = naive_rank(stored_entries(scores, row), depth)
        assert labels == [label for label, _ in expected if label >= 0]
        inside = (at[row] >= scores.indptr[row]) & (at[row] < scores.indptr[row + 1])
        assert (inside | (at[row] == -1)).all()


def test_rows_of_very_different_length_are_not_padded_together():
    lengths = np.array([0, 1, 100_000, 3, 2, 4, 1, 0])
    blocks = list(_rows_of_similar_length(lengths))
    assert sorted(np.concatenate(blocks).tolist()) == [1, 2, 3, 4, 5, 6]
    for rows in blocks:
        assert lengths[rows].max() <= 2 * lengths[rows].min()


def test_rank_rows_does_not_need_sorted_columns():
    matrix = sp.csr_array((np.array([1, 1, 2.0]), np.array([3, 0, 1]), np.array([0, 3])))
    assert rank_rows(matrix, 3)[0].tolist() == [[1, 0, 3]]


@pytest.mark.parametrize("k", [1, 2, 5, 8, 9, 20])
@pytest.mark.parametrize("seed", range(3))
def test_top_k(k, seed):
    scores = np.random.default_rng(seed).integers(-2, 3, size=(15, 9)).astype(np.float32)
    columns, values = top_k(scores, k)
    assert (columns.dtype, values.dtype) == (np.int32, np.float32)
    for row in range(15):
        expected = naive_rank(list(enumerate(scores[row].tolist())), min(k, 9))
        assert list(zip(columns[row].tolist(), values[row].tolist(), strict=True)) == expected


def test_pack_topk_undoes_rank_rows():
    matrix = random_scores()
    packed = pack_topk(*rank_rows(matrix, 9), 9)
    assert packed.has_sorted_indices
    assert packed.indices.dtype == packed.indptr.dtype == np.int32
    np.testing.assert_array_equal(packed.indptr, matrix.indptr)
    np.testing.assert_array_equal(packed.indices, matrix.indices)
    np.testing.assert_array_equal(packed.data, matrix.data)


def test_pack_topk_leaves_holes_out():
    packed = pack_topk(np.array([[-1, 4, -1, 0], [-1] * 4]), np.arange(8.0).reshape(2, 4), 5)
    assert packed.toarray().tolist() == [[3, 0, 0, 0, 1], [0, 0, 0, 0, 0]]


def test_index_dtype():
    assert index_dtype(2**31 - 1) == np.int32
    assert index_dtype(2**31) == np.int64


def test_drop_pairs():
    matrix = random_scores()
    # Stored, whatever the value: position (4, 0) is dropped by a stored zero.
    pairs = sp.csr_array(([0.0, 1.0, 1.0], ([4, 4, 2], [0, 3, 1])), shape=matrix.shape)
    left = drop_pairs(matrix, pairs)
    for row in range(12):
        expected = [
            entry
            for entry in stored_entries(matrix, row)
            if (row, entry[0]) not in {(4, 0), (4, 3), (2, 1)}
        ]
        assert stored_entries(left, row) == expected
    assert left.shape == matrix.shape
    assert drop_pairs(matrix, sp.csr_array(matrix.shape)).nnz == matrix.nnz


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_normalize_rows(dtype, form):
    dense = np.random.default_rng(0).normal(size=(6, 5)).astype(dtype)
    dense[1] = 0
    dense[2, :3] = 0
    matrix = form(dense)
    normalized = normalize_rows(matrix)
    assert normalized.dtype == dtype
    answer = normalized.toarray() if sp.issparse(normalized) else normalized
    for row in range(6):
        norm = sum(value**2 for value in dense[row].tolist()) ** 0.5
        np.testing.assert_allclose(answer[row], dense[row] / (norm or 1), rtol=1e-6)
    kept = matrix.toarray() if sp.issparse(matrix) else matrix
    np.testing.assert_array_equal(kept, dense)


def test_blocks_of_rows_are_normalised_alike(monkeypatch):
    matrix = random_scores(n=30)
    whole = normalize_rows(matrix)
    lengths = np.sqrt((matrix.toarray() ** 2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(whole.toarray(), matrix.toarray() / np.maximum(lengths, 1e-9))
    monkeypatch.setattr(_sparse, "BLOCK_ROWS", 7)
    np.testing.assert_array_equal(normalize_rows(matrix).data, whole.data)
