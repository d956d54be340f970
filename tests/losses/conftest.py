"""A small batch, and the mean over rows written with loops; a test brings its row formula."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch


@pytest.fixture
def batch():
    """Five rows, seven labels: no positive (1), one, several, all ignored positives (4)."""
    generator = torch.Generator().manual_seed(3)
    positives = torch.zeros(5, 7, dtype=torch.bool)
    for row, column in [(0, 2), (2, 0), (2, 3), (2, 6), (3, 1), (3, 5), (4, 4)]:
        positives[row, column] = True
    ignored = torch.zeros(5, 7, dtype=torch.bool)
    for row, column in [(0, 6), (2, 1), (2, 3), (4, 4), (3, 0)]:
        ignored[row, column] = True
    return SimpleNamespace(
        scores=torch.randn(5, 7, dtype=torch.float64, generator=generator),
        positives=positives,
        ignored=ignored,
        row_weight=torch.tensor([1.0, 5.0, 0.5, 2.0, 1.0], dtype=torch.float64),
        positive_weight=torch.rand(5, 7, dtype=torch.float64, generator=generator) + 0.1,
    )


@pytest.fixture
def naive():
    """Mean over rows of row_formula(scores of positives, their shares, scores of negatives)."""

    def mean_over_rows(
        row_formula, scores, positives, row_weight=None, ignored=None, positive_weight=None
    ):
        total, mass = 0.0, 0.0
        for i in range(len(scores)):
            own, weights, others = [], [], []
            for j in range(scores.shape[1]):
                if ignored is not None and ignored[i, j]:
                    continue
                if positives[i, j]:
                    own.append(float(scores[i, j]))
                    weights.append(1.0 if positive_weight is None else float(positive_weight[i, j]))
                else:
                    others.append(float(scores[i, j]))
            if own:
                shares = [w / sum(weights) for w in weights]
                weight = 1.0 if row_weight is None else float(row_weight[i])
                total += weight * row_formula(own, shares, others)
                mass += weight
        return total / mass

    return mean_over_rows


@pytest.fixture
def check(batch, naive):
    """Compare a loss with its loop twin under the options, and check its gradient."""

    def compare(loss, row_formula):
        options = {
            name: getattr(batch, name) for name in ("row_weight", "ignored", "positive_weight")
        }
        for used in [(), ("row_weight",), ("ignored",), ("positive_weight",), tuple(options)]:
            given = {name: options[name] for name in used}
            expected = naive(row_formula, batch.scores, batch.positives, **given)
            actual = loss(batch.scores, batch.positives, **given)
            assert actual.dtype == torch.float64
            assert float(actual) == pytest.approx(expected, rel=1e-12, abs=1e-12), used
        leaf = batch.scores.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda s: loss(s, batch.positives, **options), leaf)
        (gradient,) = torch.autograd.grad(loss(leaf, batch.positives, **options), leaf)
        assert (gradient[batch.ignored] == 0).all()
        assert (gradient[[1, 4]] == 0).all()

    return compare
