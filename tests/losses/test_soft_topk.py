from __future__ import annotations

import math

import pytest
import torch

from skxc.losses import SoftTopK, soft_topk


def bisect_row(row, k, steepness=2.0):
    """Sigmoids that sum to k, by 200 bisection steps in plain Python."""

    def sigmoid(x):
        return 1 / (1 + math.exp(-x)) if x > -700 else 0.0

    if len(row) <= k:
        return [1.0] * len(row)
    low, high = -1e4, 1e4
    for _ in range(200):
        middle = (low + high) / 2
        if sum(sigmoid(steepness * (s + middle)) for s in row) < k:
            low = middle
        else:
            high = middle
    return [sigmoid(steepness * (s + low)) for s in row]


def row_formula(k):
    def formula(own, shares, others):
        size = len(own) if k is None else k
        z = bisect_row(own + others, size)
        return -sum(w * math.log(p) for w, p in zip(shares, z, strict=False))

    return formula


@pytest.mark.parametrize("k", [None, 3, 4])
def test_equals_the_loop(check, k):
    check(SoftTopK(k=k), row_formula(k))


def scores_of(seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(6, 40, dtype=torch.float64, generator=generator)


def test_operator_equals_bisection_and_sums_to_k():
    scores = scores_of()
    for k in (1, 5, 39):
        z = soft_topk(scores, k)
        expected = torch.tensor([bisect_row(row.tolist(), k) for row in scores])
        torch.testing.assert_close(z, expected.double(), rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(
            z.sum(1), torch.full((6,), float(k)).double(), rtol=1e-13, atol=0
        )


def test_one_k_per_row():
    z = soft_topk(scores_of(), torch.arange(1, 7))
    torch.testing.assert_close(z.sum(1), torch.arange(1, 7).double())


def test_jacobian():
    row = scores_of()[:1]
    jacobian = torch.autograd.functional.jacobian(lambda s: soft_topk(s, 5, 2.0), row)[0, :, 0, :]
    z = soft_topk(row, 5)[0]
    v = 2.0 * z * (1 - z)
    torch.testing.assert_close(jacobian, torch.diag(v) - torch.outer(v, v) / v.sum())
    assert torch.autograd.gradcheck(lambda s: soft_topk(s, 5).log(), row.clone().requires_grad_())


def test_shift_invariance_and_the_steep_limit():
    scores = scores_of()
    torch.testing.assert_close(soft_topk(scores + 7.5, 5), soft_topk(scores, 5))
    apart = scores.argsort(1).double()
    indicator = torch.zeros_like(apart).scatter_(1, apart.topk(5).indices, 1.0)
    torch.testing.assert_close(soft_topk(apart, 5, 200.0), indicator, rtol=0, atol=1e-12)


def test_absent_entries_count_for_nothing():
    scores = scores_of()
    padding = torch.tensor([-1e30, -math.inf], dtype=torch.float64).expand(6, 2)
    z = soft_topk(torch.cat([scores, padding], 1), 5)
    torch.testing.assert_close(z[:, :-2], soft_topk(scores, 5))
    assert (z[:, -2:] == 0).all()


def test_as_many_entries_as_k_give_ones():
    scores = torch.tensor([[3.0, -50.0, -math.inf]], requires_grad=True)
    z = soft_topk(scores, 2)
    assert z.tolist() == [[1, 1, 0]]
    (gradient,) = torch.autograd.grad(z.sum(), scores)
    assert (gradient == 0).all()


@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_float32_wide_pool(scale):
    scores = scale * (2 * torch.rand(4, 5000, generator=torch.Generator().manual_seed(1)) - 1)
    scores.requires_grad_()
    z = soft_topk(scores, 5)
    torch.testing.assert_close(z.sum(1), torch.full((4,), 5.0), rtol=1e-3, atol=0)
    positives = torch.zeros(4, 5000, dtype=torch.bool)
    positives[:, :3] = True
    value = SoftTopK()(scores, positives)
    (gradient,) = torch.autograd.grad(value, scores)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


def test_zero_once_the_positives_are_on_top_in_any_order():
    scores = torch.tensor([[40.0, 60.0, 80.0, -30.0, -40.0]], dtype=torch.float64)
    positives = torch.tensor([[True, True, True, False, False]])
    assert float(SoftTopK(k=3)(scores, positives)) == pytest.approx(0, abs=1e-12)


def test_at_most_k_positives_take_part_and_the_others_are_hidden():
    scores = scores_of().float().requires_grad_()
    positives = torch.zeros(6, 40, dtype=torch.bool)
    positives[:, :9] = True
    loss = SoftTopK(k=4)
    (gradient,) = torch.autograd.grad(loss(scores, positives), scores)
    assert ((gradient[:, :9] != 0).sum(1) == 4).all()
    assert (gradient[:, 9:] != 0).all()
    assert torch.equal(loss(scores, positives), loss(scores, positives))
    assert len({tuple(row.nonzero().flatten().tolist()) for row in gradient[:, :9]}) > 1
