from __future__ import annotations

import pytest

from skxc.negatives import AllLabels, InBatch, Mined, make_negatives


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


def test_an_object_is_copied(y):
    original = Mined(depth=7)
    original.prepare(y)
    copy = make_negatives(original)
    assert copy is not original
    assert copy.depth == 7
    assert not hasattr(copy, "n_empty_")


@pytest.mark.parametrize("wrong", ["random", None, 3, InBatch])
def test_anything_else_is_refused(wrong):
    with pytest.raises(ValueError, match="`negatives` must be one of"):
        make_negatives(wrong)
