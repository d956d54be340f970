import pytest

torch = pytest.importorskip("torch")

from skxc.utils._unit_length import unit_length  # noqa: E402


def test_rows_have_length_one_and_zeros_stay():
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-20, 0.0]], requires_grad=True)
    unit = unit_length(vectors)
    torch.testing.assert_close(unit, torch.tensor([[0.6, 0.8], [0.0, 0.0], [1.0, 0.0]]))
    unit[:2].sum().backward()
    assert vectors.grad.isfinite().all()
    assert not vectors.grad[1].any()
