"""Encoders: plug-ins that turn texts or features into vectors, the same for samples and labels."""

from __future__ import annotations

from os import PathLike
from typing import Annotated

from sklearn.base import clone

from skxc._params import MadeBy
from skxc.encoders._bag import BagEncoder
from skxc.encoders._frozen import FrozenEncoder
from skxc.encoders._subwords import SubwordVectorizer
from skxc.encoders._transformer import TransformerEncoder
from skxc.encoders.base import Encoder
from skxc.utils._registry import import_target

__all__ = [
    "BagEncoder",
    "Encoder",
    "FrozenEncoder",
    "SubwordVectorizer",
    "TransformerEncoder",
    "make_encoder",
]

#: Every encoder that needs no argument, by its name. A new one is a file and a line here.
NAMES: dict[str, str] = {"bag": "skxc.encoders._bag:BagEncoder"}
#: The type of a parameter that takes an encoder: a name, a transformer, or an object.
EncoderLike = Annotated[str | PathLike[str], MadeBy("skxc.encoders:make_encoder")] | Encoder


def make_encoder(encoder: str | PathLike[str] | Encoder) -> Encoder:
    """Return an unfitted encoder: "bag", a transformer's name or folder, or a copy of an object.

    Parameters
    ----------
    encoder : str, Path or Encoder

    Returns
    -------
    Encoder

    Raises
    ------
    ValueError
        If it is something else.
    """
    if isinstance(encoder, Encoder):
        return clone(encoder)
    if isinstance(encoder, str) and encoder in NAMES:
        return import_target(NAMES[encoder])()
    if isinstance(encoder, str | PathLike):
        return TransformerEncoder(str(encoder))
    raise ValueError(
        f"`encoder` must be one of {sorted(NAMES)}, the name or folder of a transformer, or a "
        f"skxc.encoders.Encoder, but is {encoder!r}. Pass BagEncoder(), TransformerEncoder(folder) "
        "or FrozenEncoder()."
    )
