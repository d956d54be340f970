from pathlib import Path

import pytest

from skxc.encoders import BagEncoder, FrozenEncoder, TransformerEncoder, make_encoder


def test_names():
    assert type(make_encoder("bag")) is BagEncoder
    for folder in ("some/folder", Path("some/folder")):
        encoder = make_encoder(folder)
        assert type(encoder) is TransformerEncoder
        assert encoder.model == "some/folder"


def test_objects_are_copied():
    encoder = FrozenEncoder(BagEncoder(dim=3), dropout=0.2)
    copy = make_encoder(encoder)
    assert copy is not encoder
    assert repr(copy) == repr(encoder)


@pytest.mark.parametrize("wrong", [None, 3, BagEncoder, ["bag"]])
def test_everything_else_is_refused(wrong):
    with pytest.raises(ValueError, match=r"`encoder` must be .* but is .*\. Pass BagEncoder\(\)"):
        make_encoder(wrong)
