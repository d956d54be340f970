"""Seeds: every random choice is a pure function of `random_state` and of where it is made.

A stream per (stage, epoch) makes a run resumable at any epoch without storing generator states, and
keeps the global generators of numpy and torch untouched.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from sklearn.utils import check_random_state


def root_seed(random_state: int | np.random.RandomState | None) -> int:
    """Return one 31-bit seed from scikit-learn's three kinds of `random_state`."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def stream(seed: int, *place: int | str) -> np.random.Generator:
    """Return the generator that belongs to a place, such as ``stream(seed, "encoder", epoch)``."""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in place]
    return np.random.default_rng([seed, *words])


_TURN = threading.RLock()


@contextmanager
def torch_seed(seed: int, cuda_devices: Sequence[int] = ()) -> Iterator[None]:
    """Seed torch's global generators for a block, and give their states back after it.

    Modules draw from generators that all threads share, so threads take turns.

    Parameters
    ----------
    seed : int
    cuda_devices : sequence of int, default=()
        Devices whose generators the block uses beside the CPU's.
    """
    import torch

    with _TURN, torch.random.fork_rng(devices=list(cuda_devices)):
        # Not torch.manual_seed, which takes milliseconds for devices that are not there.
        torch.default_generator.manual_seed(seed)
        for number in cuda_devices:
            torch.cuda.default_generators[number].manual_seed(seed)
        yield
