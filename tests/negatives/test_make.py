from __future__ import annotations

import pytest
from sklearn.utils._param_validation import InvalidParameterError

from skxc._params import Parameterized, params
from skxc.negatives import NAMES, AllLabels, InBatch, Mined, NegativesLike, make_negatives


@pytest.mark.parametrize(
    ("name", "kind", "clustered"),
    [
        ("in_batch", InBatch, False),
        ("clustered", InBatch, True),
        ("mined", Mined, True),
        ("all", AllLabels, False),
    ],
)
def test_names(name, kind, clustered):
    negatives = make_negatives(name)
    assert type(negatives) is kind
    assert negatives.clustered is clustered
    assert (negatives.n_positives, negatives.refresh_every) == (None, 5)
    assert name in NAMES


def test_an_object_is_copied(y):
    original = Mined(depth=7)
    original.prepare(y)
    copy = make_negatives(original)
    assert copy is not original
    assert copy.depth == 7
    assert not hasattr(copy, "n_empty_")


@pytest.mark.parametrize("wrong", ["random", None, 3, InBatch])
def test_anything_else_is_refused(wrong):
    with pytest.raises(ValueError, match=r"`negatives` must be one of .* skxc\.negatives\.Neg"):
        make_negatives(wrong)


@params
class Recipe(Parameterized):
    negatives: NegativesLike = "mined"


def test_the_type_of_a_parameter():
    for negatives in (*NAMES, Mined(), InBatch(pool_size=3)):
        Recipe(negatives=negatives)._validate_params()
    for wrong in ("random", None, InBatch):
        with pytest.raises(InvalidParameterError, match="'negatives' parameter of Recipe"):
            Recipe(negatives=wrong)._validate_params()
    with pytest.raises(InvalidParameterError, match="'depth' parameter of Mined"):
        Recipe(negatives=Mined(depth=0))._validate_params()
    assert Recipe().set_params(negatives__depth=7).negatives.depth == 7
    assert Recipe(negatives="clustered").set_params(negatives__pool_size=7).negatives.clustered
