import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp

torch = pytest.importorskip("torch")

from skxc.utils._row_sparse import gather_rows, pair_products, sparse_matmul  # noqa: E402


def table_and_target(seed=0):
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(9, 4, generator=generator, requires_grad=True)
    return table, torch.randn(3, 4, generator=generator)


def test_gathered_rows_and_their_gradient():
    ids = np.array([0, 3, 8])
    table, target = table_and_target()
    (gather_rows(table, ids) * target).sum().backward()
    twin, _ = table_and_target()
    (twin[torch.from_numpy(ids)] * target).sum().backward()
    assert table.grad.is_sparse
    assert table.grad.coalesce().indices()[0].tolist() == ids.tolist()
    torch.testing.assert_close(table.grad.to_dense(), twin.grad, rtol=0, atol=0)
    torch.testing.assert_close(gather_rows(table, ids), table[ids], rtol=0, atol=0)


def test_gradients_of_two_gathers_add_up():
    table, target = table_and_target()
    for ids in ([0, 3, 8], [3, 4, 5]):
        (gather_rows(table, np.array(ids)) * target).sum().backward()
    expected = torch.zeros(9, 4)
    for ids in ([0, 3, 8], [3, 4, 5]):
        for row, i in enumerate(ids):
            expected[i] += target[row]
    torch.testing.assert_close(table.grad.to_dense(), expected)


@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_product_and_its_gradient(index_dtype, dtype):
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((5, 9)) < 0.4, rng.normal(size=(5, 9)), 0)
    matrix = sp.csr_array(dense.astype(dtype))
    matrix.indptr = matrix.indptr.astype(index_dtype)
    matrix.indices = matrix.indices.astype(index_dtype)
    table, _ = table_and_target()
    twin, _ = table_and_target()
    weight = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    product = sparse_matmul(matrix, table)
    expected = torch.tensor(matrix.toarray(), dtype=torch.float32) @ twin
    torch.testing.assert_close(product, expected)
    (product * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(table.grad, twin.grad)


def test_products_with_nothing():
    table, _ = table_and_target()
    for shape in ((0, 9), (3, 9)):
        product = sparse_matmul(sp.csr_array(shape, dtype=np.float32), table)
        assert product.shape == (shape[0], 4)
        assert not product.any()


def test_read_only_matrices():
    matrix = sp.csr_array(np.eye(9, dtype=np.float32))
    for array in (matrix.data, matrix.indices, matrix.indptr):
        array.flags.writeable = False
    table, _ = table_and_target()
    torch.testing.assert_close(sparse_matmul(matrix, table), table)


def test_no_warning_about_beta_csr_tensors():
    code = (
        "import numpy as np, scipy.sparse as sp, torch\n"
        "from skxc.utils._row_sparse import sparse_matmul\n"
        "m = sp.csr_array(np.eye(2, dtype=np.float32))\n"
        "for a in (m.data, m.indices, m.indptr): a.flags.writeable = False\n"
        "sparse_matmul(m, torch.ones(2, 2))"
    )
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr


# ---- inner products of pairs


def test_pair_products_and_their_gradients_are_those_of_a_dense_product():
    rng = np.random.default_rng(0)
    pattern = sp.csr_array((rng.random((5, 7)) < 0.4).astype(np.float32))
    left = torch.randn(5, 3, dtype=torch.float32, requires_grad=True)
    right = torch.randn(7, 3, dtype=torch.float32, requires_grad=True)
    products = pair_products(pattern, left, right)
    rows, columns = pattern.nonzero()
    dense = (left @ right.T)[rows, columns]
    torch.testing.assert_close(products, dense)
    weights = torch.randn(len(rows))
    expected = torch.autograd.grad(dense @ weights, [left, right])
    found = torch.autograd.grad(products @ weights, [left, right])
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_pair_products_of_no_pairs():
    pattern = sp.csr_array((3, 4), dtype=np.float32)
    assert pair_products(pattern, torch.ones(3, 2), torch.ones(4, 2)).shape == (0,)
