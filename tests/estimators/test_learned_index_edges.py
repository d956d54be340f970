"""Edge weights: the cap, padding, where gradients are, and where edges start."""

import numpy as np
import pytest
import scipy.sparse as sp

torch = pytest.importorskip("torch")

from skxc.estimators._learned_index.edges import (  # noqa: E402
    COUNT_FLOOR,
    LearnedEdges,
    TreeEdges,
    soft_cap,
    visited_edges,
)
from skxc.indices import IndexSizes  # noqa: E402

LABELS = np.array([[0, 1, 2], [2, 3, -1], [4, -1, -1]], dtype=np.int32)


def learned(logits, beta=2.0):
    return LearnedEdges(LABELS, np.asarray(logits, dtype=np.float32), beta=beta)


def naive_weights(logits, beta):
    weights = np.zeros(LABELS.shape)
    for row in range(len(LABELS)):
        stored = np.flatnonzero(LABELS[row] >= 0)
        share = np.exp(np.float64(logits[row][stored]))
        weights[row, stored] = 1 - np.exp(-beta * share / share.sum())
    return weights


@pytest.mark.parametrize("beta", [0.5, 2.0, 30.0])
def test_weights_against_the_formula(beta):
    logits = np.random.default_rng(0).normal(size=(3, 3)) * 3
    edges = learned(logits, beta)
    weights = edges.log_weights(np.arange(3)).exp().detach().numpy()
    np.testing.assert_allclose(weights, naive_weights(logits, beta), rtol=1e-5, atol=1e-7)
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


def test_edges_start_at_the_logarithms_of_weighted_visits_and_keep_those_of_the_tree():
    # Two rows visit cluster 0, one visits cluster 1; no row of label 3 visits its own cluster 1.
    beams = sp.csr_array(np.array([[0.5, 0.0], [1.0, 0.0], [0.0, 2.0]], dtype=np.float32))
    y = sp.csr_array(np.array([[1, 0, 0, 1], [1, 1, 0, 0], [0, 1, 1, 0]], dtype=np.float32))
    tree = np.array([[0, 1], [2, 3]], dtype=np.int32)
    sizes = IndexSizes(2, 3, alpha=1.0, beta=6.0, beam_width=1, shortlist_size=4)
    edges = visited_edges(beams, y, tree, sizes)
    assert edges.labels.tolist() == [[0, 1, 3], [2, 3, 1]]
    counts = np.array([[1.5, 1.0, 0.5], [2.0, 0.0, 2.0]])
    logits = edges.logits.detach().numpy()
    np.testing.assert_allclose(logits, np.log(counts + COUNT_FLOOR), rtol=1e-5)
    assert np.exp(edges.log_beta) == pytest.approx(6)
