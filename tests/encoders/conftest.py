"""Short texts, and a transformer of a few thousand weights in a folder."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tiny_transformer import WORDS, tiny_transformer

__all__ = ["tiny_transformer"]


@pytest.fixture
def texts():
    """Return 40 texts of one to five words."""
    rng = np.random.default_rng(0)
    return np.array(
        [" ".join(rng.choice(WORDS, size=rng.integers(1, 6))) for _ in range(40)], dtype=object
    )
