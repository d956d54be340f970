"""Seeds: every random choice is a pure function of `random_state` and of where it is made.

A stream per (stage, epoch) makes a run resumable at any epoch without storing generator states, and
keeps the global generators of numpy and torch untouched.
"""

from __future__ import annotations

import zlib

import numpy as np
from sklearn.utils import check_random_state


def root_seed(random_state: int | np.random.RandomState | None) -> int:
    """Return one 31-bit seed from scikit-learn's three kinds of `random_state`."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def stream(seed: int, *place: int | str) -> np.random.Generator:
    """Return the generator that belongs to a place, such as ``stream(seed, "encoder", epoch)``."""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in place]
    return np.random.default_rng([seed, *words])
