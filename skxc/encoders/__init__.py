"""Encoders: plug-ins that turn texts or features into vectors, the same for samples and labels."""

from __future__ import annotations

from skxc.encoders._bag import BagEncoder
from skxc.encoders._frozen import FrozenEncoder
from skxc.encoders._make import make_encoder
from skxc.encoders._subwords import SubwordVectorizer
from skxc.encoders._transformer import TransformerEncoder
from skxc.encoders.base import Encoder

__all__ = [
    "BagEncoder",
    "Encoder",
    "FrozenEncoder",
    "SubwordVectorizer",
    "TransformerEncoder",
    "make_encoder",
]
