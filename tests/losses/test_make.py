from __future__ import annotations

import subprocess
import sys

import pytest
from sklearn.utils._param_validation import InvalidParameterError

import skxc.losses
from skxc._params import Parameterized, constraints, params
from skxc.losses import (
    NAMES,
    BalancedSoftmax,
    BinaryCrossEntropy,
    DecoupledSoftmax,
    Loss,
    LossLike,
    ProbContrastive,
    Softmax,
    SoftTopK,
    Triplet,
    make_loss,
)

KINDS = {
    "decoupled": DecoupledSoftmax,
    "softmax": Softmax,
    "balanced": BalancedSoftmax,
    "soft_topk": SoftTopK,
    "triplet": Triplet,
    "prob_contrastive": ProbContrastive,
    "bce": BinaryCrossEntropy,
}


def test_names():
    assert {name: type(make_loss(name)) for name in NAMES} == KINDS
    assert {kind.__name__ for kind in KINDS.values()} <= set(skxc.losses.__all__)


def test_an_object_is_taken_as_it_is():
    for loss in (Triplet(margin=0.1), Softmax(temperature=0.3)):
        assert make_loss(loss) is loss
        assert make_loss(loss, temperature=0.01) is loss
    assert loss.temperature == 0.3


@pytest.mark.parametrize("name", NAMES)
def test_a_temperature_is_for_the_name_of_a_loss_of_logits(name):
    usual, other = make_loss(name), make_loss(name, temperature=1 / 18)
    if usual.uses_temperature:
        assert (usual.temperature, other.temperature) == (0.05, 1 / 18)
    else:
        assert usual.get_params() == other.get_params()


@pytest.mark.parametrize("wrong", ["hinge", None, 3, Softmax])
def test_anything_else_is_refused(wrong):
    with pytest.raises(ValueError, match=r"`loss` must be one of .* or a skxc\.losses\.Loss"):
        make_loss(wrong)


@params
class Recipe(Parameterized):
    loss: LossLike = "decoupled"


def test_the_type_of_a_parameter():
    for loss in (*NAMES, Triplet(), Softmax()):
        Recipe(loss=loss)._validate_params()
    for wrong in ("hinge", None, Softmax):
        with pytest.raises(InvalidParameterError, match="'loss' parameter of Recipe"):
            Recipe(loss=wrong)._validate_params()
    with pytest.raises(InvalidParameterError, match="'margin' parameter of Triplet"):
        Recipe(loss=Triplet(margin=-1))._validate_params()
    assert Loss in constraints(LossLike)


def test_a_name_has_parameters():
    recipe = Recipe().set_params(loss__temperature=0.2)
    assert type(recipe.loss) is DecoupledSoftmax
    assert recipe.loss.temperature == 0.2
    assert recipe.set_params(loss="triplet", loss__margin=0.1).loss.margin == 0.1


def test_the_room_loads_without_torch():
    code = """
        import sys
        from skxc.losses import Loss, LossLike, LogitLoss, Positives, make_loss
        assert 'torch' not in sys.modules
        from skxc.losses import *
        assert 'torch' in sys.modules
        print(Triplet.__name__, soft_topk.__name__, 'Softmax' in dir(sys.modules['skxc.losses']))
    """
    code = "\n".join(line.strip() for line in code.splitlines())
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["Triplet", "soft_topk", "True"]
    with pytest.raises(AttributeError, match=r"'skxc\.losses' has no attribute 'Hinge'"):
        _ = skxc.losses.Hinge
