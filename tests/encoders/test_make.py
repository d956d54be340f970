import os
from pathlib import Path

import pytest
from sklearn.base import clone
from sklearn.utils._param_validation import InvalidParameterError

from skxc._params import Parameterized, PositiveInt, params
from skxc.encoders import (
    NAMES,
    BagEncoder,
    Encoder,
    EncoderLike,
    FrozenEncoder,
    SubwordVectorizer,
    TransformerEncoder,
    make_encoder,
)


def test_names():
    assert {name: type(make_encoder(name)) for name in NAMES} == {"bag": BagEncoder}
    for folder in ("some/folder", Path("some/folder")):
        encoder = make_encoder(folder)
        assert type(encoder) is TransformerEncoder
        assert encoder.model == os.path.join("some", "folder")


def test_objects_are_copied():
    encoder = FrozenEncoder(BagEncoder(dim=3), dropout=0.2)
    copy = make_encoder(encoder)
    assert copy is not encoder
    assert repr(copy) == repr(encoder)


@pytest.mark.parametrize("wrong", [None, 3, BagEncoder, ["bag"]])
def test_everything_else_is_refused(wrong):
    with pytest.raises(ValueError, match=r"`encoder` must be .* but is .*\. Pass BagEncoder\(\)"):
        make_encoder(wrong)


@params
class Recipe(Parameterized):
    encoder: EncoderLike = "bag"


def test_the_type_of_a_parameter():
    for encoder in ("bag", "some/folder", Path("some/folder"), BagEncoder(), FrozenEncoder()):
        Recipe(encoder=encoder)._validate_params()
    for wrong in (None, 3, BagEncoder):
        with pytest.raises(InvalidParameterError, match="'encoder' parameter of Recipe"):
            Recipe(encoder=wrong)._validate_params()
    nested = Recipe(encoder=FrozenEncoder(BagEncoder(dim=0)))
    with pytest.raises(InvalidParameterError, match="'dim' parameter of BagEncoder"):
        nested._validate_params()


def test_a_name_has_parameters():
    assert Recipe().set_params(encoder__dim=8).encoder.dim == 8
    for folder in ("some/folder", Path("some/folder")):
        encoder = Recipe(encoder=folder).set_params(encoder__max_length=8).encoder
        assert (encoder.max_length, Path(encoder.model)) == (8, Path("some/folder"))


def test_positional_arguments():
    assert TransformerEncoder("folder").model == "folder"
    assert FrozenEncoder(BagEncoder()).encoder.dim == 256
    for call in (lambda: TransformerEncoder(), lambda: TransformerEncoder("folder", "cls")):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError, match="dims"):
        BagEncoder(dims=3)


@pytest.mark.parametrize(
    ("encoder", "name"),
    [
        (BagEncoder(dim=0), "dim"),
        (BagEncoder(dropout=1.0), "dropout"),
        (BagEncoder(n_buckets=-1), "n_buckets"),
        (BagEncoder(ngram_range=3), "ngram_range"),
        (FrozenEncoder("bag"), "encoder"),
        (FrozenEncoder(precision="half"), "precision"),
        (TransformerEncoder("folder", pooling="max"), "pooling"),
        (TransformerEncoder("folder", max_length=0), "max_length"),
        (SubwordVectorizer(min_df=0), "min_df"),
    ],
    ids=repr,
)
def test_bad_parameters_are_refused(encoder, name):
    with pytest.raises(ValueError, match=f"'{name}' parameter of {type(encoder).__name__}"):
        encoder.fit(["red"])


def test_no_encoder_has_no_parameters():
    with pytest.raises(ValueError, match="`encoder` of FrozenEncoder is None, which has no param"):
        FrozenEncoder().set_params(encoder__dim=4)
    with pytest.raises(TypeError, match="abstract"):
        Encoder()


def test_an_encoder_of_your_own(texts):
    class Plain(BagEncoder):
        rows_at_once = 7

    @params
    class FirstWords(BagEncoder):
        n_words: PositiveInt = 1

        def prepare(self, rows):
            return super().prepare([" ".join(row.split()[: self.n_words]) for row in rows])

    assert clone(Plain(dim=3)).fit(texts).dim_ == 3
    first = clone(FirstWords(n_words=2, dim=5)).fit(texts)
    assert first.encode(first.prepare(texts)).shape == (40, 5)
    assert (first.prepare(texts) != BagEncoder.prepare(first, texts)).nnz
    with pytest.raises(ValueError, match="'n_words' parameter of FirstWords"):
        FirstWords(n_words=0).fit(texts)
