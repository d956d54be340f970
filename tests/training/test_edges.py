"""Edge weights: the caps, padding, and where gradients are."""

import numpy as np
import pytest
import torch

from skxc.training import LearnedEdges, TreeEdges
from skxc.training._edges import soft_cap

LABELS = np.array([[0, 1, 2], [2, 3, -1], [4, -1, -1]], dtype=np.int32)


def learned(logits=None, cap="soft", beta=2.0):
    logits = np.zeros((3, 3), dtype=np.float32) if logits is None else logits
    return LearnedEdges(LABELS, np.asarray(logits, dtype=np.float32), beta=beta, cap=cap)


def naive_weights(logits, beta, cap):
    weights = np.zeros(LABELS.shape)
    for row in range(len(LABELS)):
        stored = np.flatnonzero(LABELS[row] >= 0)
        share = np.exp(np.float64(logits[row][stored]))
        x = beta * share / share.sum()
        weights[row, stored] = np.minimum(1, x) if cap == "clamp" else 1 - np.exp(-x)
    return weights


@pytest.mark.parametrize("cap", ["soft", "clamp"])
@pytest.mark.parametrize("beta", [0.5, 2.0, 30.0])
def test_weights_against_the_formula(cap, beta):
    logits = np.random.default_rng(0).normal(size=(3, 3)) * 3
    edges = learned(logits, cap, beta)
    weights = edges.log_weights(np.arange(3)).exp().detach().numpy()
    np.testing.assert_allclose(weights, naive_weights(logits, beta, cap), rtol=1e-5, atol=1e-7)
    assert weights.min() >= 0
    assert weights.max() <= 1
    assert (weights.sum(axis=1) <= beta + 1e-5).all()
    assert (weights[LABELS < 0] == 0).all()


def test_only_the_asked_rows_get_a_gradient():
    edges = learned(np.random.default_rng(0).normal(size=(3, 3)))
    weights = edges.log_weights(np.array([0, 1]))
    weights[torch.from_numpy(LABELS[:2] >= 0)].exp().pow(2).sum().backward()
    gradient = edges.logits.grad.to_dense()
    assert (gradient[0] != 0).all()
    assert (gradient[1, :2] != 0).all()
    assert gradient[1, 2] == 0
    assert (gradient[2] == 0).all()


def test_a_hard_cap_has_no_gradient_above_and_one_below():
    edges = learned([[3.0, 0.0, 0.0], [0.0] * 3, [0.0] * 3], "clamp", beta=1.5)
    weights = edges.log_weights(np.array([0])).exp()
    assert weights[0, 0] == 1
    (gradient,) = torch.autograd.grad(weights[0, 0], edges.logits, retain_graph=True)
    assert (gradient.to_dense() == 0).all()
    (gradient,) = torch.autograd.grad(weights[0, 1], edges.logits)
    assert gradient.to_dense()[0, 1] > 0


def test_a_soft_cap_always_has_a_gradient():
    x = torch.logspace(-12, np.log10(79.9), 500, dtype=torch.float32)
    log_x = x.log().requires_grad_()
    weight = soft_cap(log_x).exp()
    (gradient,) = torch.autograd.grad(soft_cap(log_x).sum(), log_x)
    assert torch.isfinite(gradient).all()
    assert (gradient > 0).all()
    assert (weight.diff() >= 0).all()
    exact = -np.expm1(-x.double().numpy())
    np.testing.assert_allclose(weight.detach().numpy(), exact, rtol=1e-5)
    small = x <= 1e-3
    assert (weight[small] - x[small]).abs().max() < 1e-6


def test_the_gradient_of_the_soft_cap_is_that_of_its_formula():
    log_x = torch.linspace(-12, 3, 60, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(soft_cap(log_x).sum(), log_x)
    x = log_x.exp()
    torch.testing.assert_close(gradient, x / torch.expm1(x), rtol=1e-4, atol=0)


def test_a_softmax_that_underflows_does_not_break_the_others():
    edges = learned([[200.0, 0.0, -200.0], [0.0] * 3, [0.0] * 3])
    edges.log_weights(np.array([0])).sum().backward()
    assert torch.isfinite(edges.logits.grad.to_dense()).all()


def test_edges_of_a_tree_weigh_one_and_do_not_learn():
    edges = TreeEdges(LABELS)
    assert not list(edges.parameters())
    weights = edges.log_weights(np.array([1, 2])).exp()
    np.testing.assert_array_equal(weights.numpy(), LABELS[1:] >= 0)
