from __future__ import annotations

import math

import pytest
import torch

from skxc.losses import BinaryCrossEntropy


def row_formula(own, shares, others):
    value = sum(math.log(1 + math.exp(s)) for s in others)
    for s, share in zip(own, shares, strict=True):
        value += len(own) * share * math.log(1 + math.exp(-s))
    return value / (len(own) + len(others))


def test_equals_the_loop(check):
    check(BinaryCrossEntropy(), row_formula)


def test_equals_torch_when_every_row_has_a_positive(batch):
    scores, positives = batch.scores[2:4], batch.positives[2:4]
    expected = torch.nn.functional.binary_cross_entropy_with_logits(scores, positives.double())
    assert float(BinaryCrossEntropy()(scores, positives)) == pytest.approx(float(expected))


def test_absent_labels_do_not_dilute_the_mean():
    scores = torch.tensor([[2.0, -1.0, -math.inf]])
    positives = torch.tensor([[True, False, False]])
    expected = BinaryCrossEntropy()(scores[:, :2], positives[:, :2])
    assert float(BinaryCrossEntropy()(scores, positives)) == pytest.approx(float(expected))
