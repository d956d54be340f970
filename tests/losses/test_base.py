from __future__ import annotations

import pickle

import pytest
import torch
from sklearn.base import clone

from skxc._params import PositiveFloat, params
from skxc.losses import (
    BalancedSoftmax,
    BinaryCrossEntropy,
    DecoupledSoftmax,
    LogitLoss,
    Loss,
    ProbContrastive,
    Softmax,
    SoftTopK,
    Triplet,
)
from skxc.losses.base import HIDDEN, Positives

# Soft top-k with every positive kept: drawing some would make the rows depend on each other.
LOSSES = [
    DecoupledSoftmax(),
    Softmax(),
    BalancedSoftmax(),
    SoftTopK(k=None),
    Triplet(),
    ProbContrastive(),
    BinaryCrossEntropy(),
]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)


@every_loss
def test_half_precision_is_computed_in_float32(loss, batch):
    for dtype in (torch.bfloat16, torch.float16):
        scores = batch.scores.to(dtype).requires_grad_()
        value = loss(scores, batch.positives, ignored=batch.ignored)
        expected = loss(scores.detach().float(), batch.positives, ignored=batch.ignored)
        assert value.dtype == torch.float32
        assert value.item() == expected.item()
        (gradient,) = torch.autograd.grad(value, scores)
        assert gradient.dtype == dtype
        assert torch.isfinite(gradient).all()


@every_loss
def test_ignoring_a_cell_is_removing_its_column(loss, batch):
    scores = batch.scores[2:3]
    positives = batch.positives[2:3]
    ignored = torch.zeros_like(positives)
    ignored[0, [1, 3]] = True
    kept = [0, 2, 4, 5, 6]
    leaf = scores.clone().requires_grad_()
    value = loss(leaf, positives, ignored=ignored)
    (gradient,) = torch.autograd.grad(value, leaf)
    small = scores[:, kept].clone().requires_grad_()
    expected = loss(small, positives[:, kept])
    (expected_gradient,) = torch.autograd.grad(expected, small)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient[:, kept], expected_gradient)
    assert (gradient[:, [1, 3]] == 0).all()


@every_loss
def test_rows_without_positives_and_rows_of_weight_zero_are_dropped(loss, batch):
    rows = [0, 2, 3, 4]
    expected = float(loss(batch.scores[rows], batch.positives[rows]))
    assert float(loss(batch.scores, batch.positives)) == pytest.approx(expected, rel=1e-12)
    weight = torch.tensor([0.0, 1.0, 2.0, 0.0, 0.0])
    expected = float(loss(batch.scores[2:3], batch.positives[2:3]))
    actual = loss(batch.scores, batch.positives, row_weight=weight)
    assert float(actual) == pytest.approx(expected, rel=1e-12)


@every_loss
def test_integer_row_weights_are_copies(loss, batch):
    rows = [0, 0, 2, 2, 2, 3]
    weight = torch.tensor([2.0, 9.0, 3.0, 1.0, 0.0])
    actual = loss(batch.scores, batch.positives, row_weight=weight)
    expected = sum(float(loss(batch.scores[i : i + 1], batch.positives[i : i + 1])) for i in rows)
    assert float(actual) == pytest.approx(expected / 6, rel=1e-12)


@every_loss
def test_no_positive_anywhere_is_zero_with_zero_gradient(loss, batch):
    leaf = batch.scores.clone().requires_grad_()
    value = loss(leaf, torch.zeros_like(batch.positives))
    (gradient,) = torch.autograd.grad(value, leaf)
    assert value.item() == 0
    assert (gradient == 0).all()


@every_loss
def test_permuting_the_pool_changes_nothing(loss, batch):
    order = torch.tensor([3, 0, 6, 1, 5, 4, 2])
    expected = float(loss(batch.scores, batch.positives))
    actual = float(loss(batch.scores[:, order], batch.positives[:, order]))
    assert actual == pytest.approx(expected, rel=1e-12)


@every_loss
def test_large_scores_stay_finite(loss):
    generator = torch.Generator().manual_seed(0)
    scores = (400 * torch.rand(8, 30, generator=generator) - 200).requires_grad_()
    positives = torch.rand(8, 30, generator=generator) < 0.2
    value = loss(scores, positives)
    (gradient,) = torch.autograd.grad(value, scores)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@every_loss
def test_is_a_cloneable_picklable_parameter(loss):
    assert clone(loss).get_params() == loss.get_params()
    assert pickle.loads(pickle.dumps(loss)).get_params() == loss.get_params()


def test_temperature_is_for_logits_only():
    expected = [True, True, True, True, False, False, True]
    assert [loss.uses_temperature for loss in LOSSES] == expected
    assert [isinstance(loss, LogitLoss) for loss in LOSSES] == expected
    # That of the triplet weighs its violators, and its caller divides nothing by it.
    kept = [getattr(loss, "temperature", None) for loss in LOSSES]
    assert kept == [0.05, 0.05, 0.05, 0.05, 0.1, None, 0.05]


@every_loss
def test_scores_are_divided_by_the_temperature_on_request_only(loss, batch):
    if loss.uses_temperature:
        other = clone(loss).set_params(temperature=3.0)
        assert other(batch.scores, batch.positives) == loss(batch.scores, batch.positives)
        assert torch.equal(other.scaled(batch.scores), batch.scores / 3.0)
    else:
        assert loss.scaled(batch.scores) is batch.scores


def test_a_loss_of_your_own(batch):
    class Twice(Softmax):
        def _loss(self, scores, positives):
            return 2 * super()._loss(scores, positives)

    @params
    class Scaled(Loss):
        scale: PositiveFloat = 1.0

        def _loss(self, scores, positives):
            return self.scale * Softmax()._loss(scores, positives)

    expected = Softmax()(batch.scores, batch.positives)
    assert Twice(temperature=0.3).get_params() == {"temperature": 0.3}
    assert Twice()(batch.scores, batch.positives) == 2 * expected
    assert clone(Scaled(scale=3.0))(batch.scores, batch.positives) == 3 * expected
    with pytest.raises(ValueError, match="'scale' parameter of Scaled"):
        Scaled(scale=0)(batch.scores, batch.positives)
    with pytest.raises(TypeError, match="abstract"):
        Loss()


def test_bad_masks_and_parameters_are_refused(batch):
    with pytest.raises(ValueError, match=r"`positives` must be a boolean tensor .*\(5, 7\)"):
        Softmax()(batch.scores, batch.positives.float())
    with pytest.raises(ValueError, match=r"`ignored` .* of shape \(5, 6\)"):
        Softmax()(batch.scores, batch.positives, ignored=batch.ignored[:, :6])
    for loss, name in [
        (Triplet(margin=-1.0), "margin"),
        (Triplet(temperature=0), "temperature"),
        (Softmax(temperature=0), "temperature"),
        (SoftTopK(k=0), "k"),
        (ProbContrastive(c=1.0), "c"),
    ]:
        with pytest.raises(ValueError, match=f"'{name}' parameter of {type(loss).__name__}"):
            loss(batch.scores, batch.positives)
    with pytest.raises(TypeError, match="margn"):
        Triplet(margn=0.3)


def test_lowest_keeps_the_first_by_key_and_renormalises():
    positives = Positives(
        rows=torch.tensor([0, 0, 0, 2]),
        columns=torch.tensor([1, 4, 5, 3]),
        share=torch.tensor([0.2, 0.3, 0.5, 1.0]),
        row_weight=torch.tensor([0.5, 0.0, 0.5]),
    )
    kept = positives.lowest(torch.tensor([0.3, 0.9, -1.0, 7.0]), 2)
    assert kept.rows.tolist() == [0, 0, 2]
    assert kept.columns.tolist() == [1, 5, 3]
    torch.testing.assert_close(kept.share, torch.tensor([2 / 7, 5 / 7, 1.0]))
    torch.testing.assert_close(kept.weight, torch.tensor([1 / 7, 5 / 14, 0.5]))
    assert positives.per_row.tolist() == [3, 0, 1]


def test_hidden_fits_float32():
    assert torch.isfinite(torch.tensor(HIDDEN, dtype=torch.float32))
