"""Rows of unit length, also where a row is zero."""

from __future__ import annotations

import math

from torch import Tensor


def unit_length(vectors: Tensor) -> Tensor:
    """Return the rows at unit length; a row of zeros stays one and gets no gradient."""
    lengths = vectors.norm(dim=1, keepdim=True)
    return vectors / lengths.masked_fill(lengths == 0, math.inf)
