import pytest

torch = pytest.importorskip("torch")

from skxc.utils._rounding import round_stochastically, store_rows  # noqa: E402


def test_rounding_is_right_on_average():
    """Nearest rounding would give one of the two neighbours always."""
    torch.manual_seed(0)
    values = torch.tensor([1.001, -3.3, 1e-20, 7.7e8, 0.0]).repeat(20_000, 1)
    rounded = round_stochastically(values)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(
        rounded.double().mean(dim=0), values.double().mean(dim=0), rtol=2e-4, atol=0
    )
    for column in rounded.T:
        assert len(column.unique()) <= 2, "only the two neighbours"


def test_numbers_of_bfloat16_stay():
    torch.manual_seed(0)
    values = torch.randn(1000).to(torch.bfloat16)
    special = torch.tensor([float("inf"), -float("inf"), 0.0]).to(torch.bfloat16)
    for exact in (values, special):
        assert torch.equal(round_stochastically(exact.float()), exact)
    assert round_stochastically(torch.tensor([float("nan")])).isnan().all()


def test_rows_of_a_table():
    torch.manual_seed(0)
    rows = torch.randn(2, 3)
    for dtype in (torch.float32, torch.bfloat16):
        table = torch.zeros(4, 3, dtype=dtype)
        store_rows(table, torch.tensor([0, 2]), rows)
        torch.testing.assert_close(table[[0, 2]].float(), rows, rtol=2**-7, atol=0)
        assert not table[[1, 3]].any()
        assert torch.equal(table[0], rows[0]) == (dtype == torch.float32)
