import numpy as np
import pytest

torch = pytest.importorskip("torch")

from skxc.training import LabelVectors  # noqa: E402


def test_rows_and_gradients():
    weight = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    table = LabelVectors(weight)
    vectors = table(np.array([1, 4]))
    np.testing.assert_array_equal(vectors.detach().numpy(), weight[[1, 4]])
    (vectors * torch.tensor([[1.0], [2.0]])).sum().backward()
    expected = np.zeros((6, 3))
    expected[1], expected[4] = 1, 2
    assert table.weight.grad.is_sparse
    np.testing.assert_array_equal(table.weight.grad.to_dense().numpy(), expected)


def test_the_table_is_a_copy_both_ways():
    weight = np.zeros((3, 2), dtype=np.float32)
    table = LabelVectors(weight)
    out = table.to_numpy()
    with torch.no_grad():
        table.weight += 1
    assert not weight.any()
    assert not out.any()
    assert table.to_numpy().all()


def test_dropout_in_training_only():
    table = LabelVectors(np.ones((50, 40), dtype=np.float32), dropout=0.25)
    torch.manual_seed(0)
    vectors = table.train()(np.arange(50)).detach().numpy()
    assert (vectors == 0).mean() == pytest.approx(0.25, abs=0.03)
    np.testing.assert_allclose(vectors[vectors > 0], 1 / 0.75, rtol=1e-6)
    assert (table.eval()(np.arange(50)) == 1).all()


def test_bfloat16_takes_half_the_memory_and_gives_float32():
    weight = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    table = LabelVectors(weight, dtype="bfloat16")
    assert table.weight.element_size() == 2
    vectors = table(np.array([1, 4]))
    assert vectors.dtype == torch.float32
    np.testing.assert_allclose(vectors.detach().numpy(), weight[[1, 4]], rtol=2**-8)
    assert table.to_numpy().dtype == np.float32
    vectors.sum().backward()
    assert table.weight.grad.is_sparse
    assert table.weight.grad.dtype == torch.bfloat16


def test_some_rows_as_an_array():
    weight = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.testing.assert_array_equal(LabelVectors(weight).to_numpy(slice(2, 5)), weight[2:5])


def test_rows_travel_to_another_device_and_the_table_stays():
    table = LabelVectors(np.ones((6, 3), dtype=np.float32), device=torch.device("meta"))
    assert table.weight.device.type == "cpu"
    assert table(np.array([1, 4])).device.type == "meta"
