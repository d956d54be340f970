"""Encoders by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sklearn.base import clone

from skxc.encoders._bag import BagEncoder
from skxc.encoders.base import Encoder


def make_encoder(encoder: Any) -> Encoder:
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
    if encoder == "bag":
        return BagEncoder()
    if isinstance(encoder, str | Path):
        from skxc.encoders._transformer import TransformerEncoder

        return TransformerEncoder(str(encoder))
    raise ValueError(
        f'`encoder` must be "bag", the name or folder of a transformer, or an Encoder, but is '
        f"{encoder!r}. Pass BagEncoder(), TransformerEncoder(folder) or FrozenEncoder()."
    )
