"""A random label matrix with an empty row and a full row."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp


@pytest.fixture
def y():
    dense = np.random.default_rng(0).random((40, 30)) < 0.15
    dense[3] = False
    dense[5] = True
    return sp.csr_array(dense.astype(np.float32))
