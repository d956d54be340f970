from __future__ import annotations

import math

import pytest
import torch

from skxc.losses import ProbContrastive


def row_formula(c=0.9, d=1.5, n_hard=1):
    def formula(own, shares, others):
        value = 0.0
        for s, share in zip(own, shares, strict=True):
            value += len(own) * share * -math.log(c * math.exp(d * (s - 1)))
        for s in sorted(others, reverse=True)[:n_hard]:
            value -= math.log(1 - c * math.exp(d * (min(s, 1.0) - 1)))
        return value

    return formula


@pytest.mark.parametrize("parameters", [{}, {"n_hard": 3}, {"n_hard": 9}, {"c": 0.75, "d": 3.0}])
def test_equals_the_loop(check, batch, parameters):
    batch.scores = torch.tanh(batch.scores)
    check(ProbContrastive(**parameters), row_formula(**parameters))


def test_a_perfect_pair_costs_a_positive_constant():
    loss = ProbContrastive()(torch.tensor([[1.0, -1.0]]), torch.tensor([[True, False]]))
    expected = -math.log(0.9) - math.log(1 - 0.9 * math.exp(-3.0))
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_scores_above_one_stay_finite():
    scores = torch.tensor([[1.0, 1.0 + 1e-6, 200.0]], requires_grad=True)
    value = ProbContrastive(n_hard=2)(scores, torch.tensor([[True, False, False]]))
    (gradient,) = torch.autograd.grad(value, scores)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
