from __future__ import annotations

import pytest

from skxc.losses import (
    BalancedSoftmax,
    BinaryCrossEntropy,
    DecoupledSoftmax,
    ProbContrastive,
    Softmax,
    SoftTopK,
    Triplet,
    make_loss,
)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("decoupled", DecoupledSoftmax),
        ("softmax", Softmax),
        ("balanced", BalancedSoftmax),
        ("soft_topk", SoftTopK),
        ("triplet", Triplet),
        ("prob_contrastive", ProbContrastive),
        ("bce", BinaryCrossEntropy),
    ],
)
def test_names(name, kind):
    assert type(make_loss(name)) is kind


def test_an_object_is_taken_as_it_is():
    loss = Triplet(margin=0.1)
    assert make_loss(loss) is loss


@pytest.mark.parametrize("wrong", ["hinge", None, 3, Softmax])
def test_anything_else_is_refused(wrong):
    with pytest.raises(ValueError, match="`loss` must be one of"):
        make_loss(wrong)
