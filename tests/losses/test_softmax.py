from __future__ import annotations

import math

import pytest
import torch

from skxc.losses import BalancedSoftmax, DecoupledSoftmax, Softmax

FAMILY = [Softmax(), BalancedSoftmax(), DecoupledSoftmax()]


def decoupled_row(own, shares, others):
    mass = sum(math.exp(s) for s in others)
    return sum(w * (math.log(math.exp(s) + mass) - s) for w, s in zip(shares, own, strict=True))


def softmax_row(own, shares, others):
    mass = sum(math.exp(s) for s in own + others)
    return sum(w * (math.log(mass) - s) for w, s in zip(shares, own, strict=True))


def balanced_row(own, shares, others):
    mass = sum(math.exp(s) for s in others)
    mass += sum(w * math.exp(s) for w, s in zip(shares, own, strict=True))
    return sum(w * (math.log(mass) - s) for w, s in zip(shares, own, strict=True))


@pytest.mark.parametrize(
    ("loss", "row"),
    [
        (DecoupledSoftmax(), decoupled_row),
        (Softmax(), softmax_row),
        (BalancedSoftmax(), balanced_row),
    ],
)
def test_equals_the_loop(check, loss, row):
    check(loss, row)


def gradient_of(loss, scores, positives):
    leaf = scores.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, positives), leaf)[0]


def random_rows(n_rows=64, n_labels=50, scale=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = scale * torch.randn(n_rows, n_labels, dtype=torch.float64, generator=generator)
    positives = torch.rand(n_rows, n_labels, generator=generator) < 0.1
    positives[:, 0] = True
    return scores, positives


def test_one_positive_each_is_cross_entropy():
    scores, _ = random_rows()
    target = torch.arange(64) % 50
    positives = torch.nn.functional.one_hot(target, 50).bool()
    expected = torch.nn.functional.cross_entropy(scores, target)
    for loss in FAMILY:
        assert float(loss(scores, positives)) == pytest.approx(float(expected), abs=1e-12)


def test_softmax_gradient_identity_and_sign():
    scores, positives = random_rows()
    gradient = gradient_of(Softmax(), scores, positives) * len(scores)
    mass = torch.softmax(scores, 1)
    share = positives.double() / positives.sum(1, keepdim=True)
    torch.testing.assert_close(gradient, mass - share, rtol=0, atol=1e-13)
    pushed_down = positives & (mass > share)
    assert pushed_down.any()
    assert (gradient[pushed_down] > 0).all()


def test_balanced_gradient_identity_and_sign():
    scores, positives = random_rows()
    gradient = gradient_of(BalancedSoftmax(), scores, positives) * len(scores)
    share = 1.0 / positives.sum(1, keepdim=True).double()
    weight = torch.where(positives, share, torch.ones_like(share))
    ratio = scores.exp() / (weight * scores.exp()).sum(1, keepdim=True)
    expected = torch.where(positives, share * (ratio - 1), ratio)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-13)
    pushed_down = positives & (ratio > 1)
    assert pushed_down.any()
    assert (gradient[pushed_down] > 0).all()
    assert (gradient[positives & (ratio < 1)] < 0).all()


def test_decoupled_gradient_identity_and_sign():
    scores, positives = random_rows()
    gradient = gradient_of(DecoupledSoftmax(), scores, positives) * len(scores)
    for i in range(len(scores)):
        own = scores[i, positives[i]].exp()
        others = scores[i, ~positives[i]].exp()
        n, mass = len(own), others.sum()
        torch.testing.assert_close(gradient[i, positives[i]], -(1 - own / (own + mass)) / n)
        expected = (others[None, :] / (own[:, None] + mass)).sum(0) / n
        torch.testing.assert_close(gradient[i, ~positives[i]], expected)
    assert (gradient[positives] <= 0).all()
    assert (gradient[~positives] >= 0).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([60.0, 60.0, 60.0], {Softmax: math.log(3), BalancedSoftmax: 0, DecoupledSoftmax: 0}),
        ([60.0, 65.0, 70.0], {Softmax: 5.00676, BalancedSoftmax: 3.90815, DecoupledSoftmax: 0}),
    ],
)
def test_dominating_positives(values, expected):
    scores = torch.tensor([[*values, 0.0, -1.0, 2.0]], dtype=torch.float64)
    positives = torch.tensor([[True, True, True, False, False, False]])
    for kind, value in expected.items():
        assert float(kind()(scores, positives)) == pytest.approx(value, abs=1e-4)


def test_mean_over_sampled_and_masked_cross_entropy_is_decoupled():
    scores, positives = random_rows()
    rows = []
    for i in range(len(scores)):
        draws = []
        for p in positives[i].nonzero().flatten():
            others = positives[i].clone()
            others[p] = False
            row = scores[i].masked_fill(others, -math.inf)
            draws.append(torch.nn.functional.cross_entropy(row[None], p[None]))
        rows.append(torch.stack(draws).mean())
    expected = torch.stack(rows).mean()
    assert float(DecoupledSoftmax()(scores, positives)) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("loss", FAMILY, ids=lambda loss: type(loss).__name__)
def test_large_logits_stay_finite(loss):
    scores, positives = random_rows()
    scores = (torch.rand(scores.shape) * 400 - 200).float()
    value = loss(scores, positives)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient_of(loss, scores, positives)).all()


def test_float32_keeps_a_small_negative_mass_far_below_the_best_positive():
    scores = torch.tensor([[200.0, -200.0, -199.0]])
    positives = torch.tensor([[True, True, False]])
    expected = 0.5 * math.log1p(math.exp(1.0))
    assert float(DecoupledSoftmax()(scores, positives)) == pytest.approx(expected, rel=1e-6)


def test_only_positives_in_the_row_is_exactly_zero():
    scores = torch.tensor([[200.0, -200.0, 0.0]])
    positives = torch.ones(1, 3, dtype=torch.bool)
    assert float(DecoupledSoftmax()(scores, positives)) == 0
    assert (gradient_of(DecoupledSoftmax(), scores, positives) == 0).all()


@pytest.mark.parametrize("loss", FAMILY, ids=lambda loss: type(loss).__name__)
def test_a_label_at_minus_infinity_changes_nothing(loss):
    scores, positives = random_rows()
    wider = torch.cat([scores, torch.full((64, 1), -math.inf, dtype=torch.float64)], 1)
    flags = torch.cat([positives, torch.zeros(64, 1, dtype=torch.bool)], 1)
    assert float(loss(wider, flags)) == pytest.approx(float(loss(scores, positives)), rel=1e-14)
    gradient = gradient_of(loss, wider, flags)
    torch.testing.assert_close(gradient[:, :-1], gradient_of(loss, scores, positives))
    assert (gradient[:, -1] == 0).all()


@pytest.mark.parametrize("loss", FAMILY, ids=lambda loss: type(loss).__name__)
def test_a_row_of_minus_infinity_without_positives_changes_nothing(loss):
    scores, positives = random_rows()
    scores[3], positives[3] = -math.inf, False
    gradient = gradient_of(loss, scores, positives)
    assert torch.isfinite(loss(scores, positives))
    assert (gradient[3] == 0).all()
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("loss", FAMILY, ids=lambda loss: type(loss).__name__)
def test_upstream_gradient_scales_and_backward_can_be_repeated(loss):
    scores, positives = random_rows(8, 6)
    leaf = scores.clone().requires_grad_()
    value = loss(leaf * 1.0, positives)
    (once,) = torch.autograd.grad(value, leaf, retain_graph=True)
    (thrice,) = torch.autograd.grad(3 * value, leaf, retain_graph=True)
    value.backward()
    torch.testing.assert_close(thrice, 3 * once)
    assert torch.equal(leaf.grad, once)


def test_the_scores_are_not_changed_and_may_be_a_transposed_view():
    scores, positives = random_rows()
    before = scores.clone()
    view = scores.T.contiguous().T
    torch.testing.assert_close(
        gradient_of(DecoupledSoftmax(), view, positives),
        gradient_of(DecoupledSoftmax(), scores, positives),
    )
    assert torch.equal(scores, before)
