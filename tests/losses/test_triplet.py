from __future__ import annotations

import math

import pytest
import torch

from skxc.losses import Triplet


def row_formula(margin=0.3, n_hard=10, temperature=0.1, n_positives=None):
    def formula(own, shares, others):
        hardest = sorted(others, reverse=True)[:n_hard]
        chosen = sorted(zip(own, shares, strict=True))[:n_positives]
        total = 0.0
        for positive, share in chosen:
            violators = [s for s in hardest if s - positive + margin > 0]
            mass = sum(math.exp(s / temperature) for s in violators)
            for s in violators:
                total += share * math.exp(s / temperature) / mass * (s - positive + margin)
        return total / sum(share for _, share in chosen)

    return formula


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"n_hard": 2},
        {"margin": 0.2, "n_hard": 3, "n_positives": 2, "temperature": 0.5},
        {"n_positives": 1},
    ],
)
def test_equals_the_loop(check, parameters):
    check(Triplet(**parameters), row_formula(**parameters))


SCORES = torch.tensor([[0.9, 0.7, 0.2], [0.6, 0.5, 0.8], [0.1, 0.4, 0.3]], dtype=torch.float64)
KNOWN = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1]]).bool()
DRAWN = torch.eye(3).bool()


@pytest.mark.parametrize(("n_hard", "expected"), [(2, 0.320644), (1, 0.333333)])
def test_drawn_positives_with_the_other_known_ones_ignored(n_hard, expected):
    loss = Triplet(n_hard=n_hard)(SCORES, DRAWN, ignored=KNOWN & ~DRAWN)
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_satisfied_negatives_carry_no_weight():
    scores = torch.tensor([[0.9, 0.65, 0.5, 0.4]], dtype=torch.float64)
    positives = torch.tensor([[True, False, False, False]])
    assert float(Triplet(n_hard=3)(scores, positives)) == pytest.approx(0.05, abs=1e-12)


def test_all_positives_is_the_expectation_of_one_draw(batch):
    positives = batch.positives[2:3]
    scores = batch.scores[2:3] / 3
    draws = []
    for column in positives[0].nonzero().flatten():
        drawn = torch.zeros_like(positives)
        drawn[0, column] = True
        draws.append(float(Triplet()(scores, drawn, ignored=positives & ~drawn)))
    assert float(Triplet()(scores, positives)) == pytest.approx(sum(draws) / 3, rel=1e-12)


def test_zero_with_zero_gradient_once_all_margins_hold():
    scores = torch.tensor([[0.9, 0.5, 0.1]], requires_grad=True)
    value = Triplet()(scores, torch.tensor([[True, False, False]]))
    (gradient,) = torch.autograd.grad(value, scores)
    assert value.item() == 0
    assert (gradient == 0).all()


def test_a_row_without_negatives_costs_nothing():
    assert float(Triplet()(torch.tensor([[0.1, 0.9]]), torch.ones(1, 2, dtype=torch.bool))) == 0
