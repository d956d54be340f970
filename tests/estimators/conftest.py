"""Planted data, shared by the tests of estimators that read texts."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.datasets import make_planted_xc
from tests.tiny_transformer import tiny_transformer

__all__ = ["tiny_transformer"]


@pytest.fixture(scope="session")
def planted():
    """Return 300 texts with 40 labels that samples and labels name by the same words."""
    return make_planted_xc(
        300, 40, n_test=150, vocabulary_gap=0.0, unseen_fraction=0.1, random_state=0
    )


@pytest.fixture(scope="session")
def features():
    """Return CSR features, labels, and label features over the same columns."""
    rng = np.random.default_rng(0)
    y = rng.random((60, 9)) < 0.25
    y[:, 8] = False
    centres = rng.normal(size=(9, 12))
    X = np.maximum(y @ centres + 0.2 * rng.normal(size=(60, 12)), 0)
    side = np.maximum(centres, 0)
    return tuple(sp.csr_array(matrix.astype(np.float32)) for matrix in (X, y, side))
