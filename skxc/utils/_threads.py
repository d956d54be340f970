"""Compiled loops over rows, in threads where there is enough to do for them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch

# Multiplications below which another thread costs more than it takes over.
WORK_PER_THREAD = 2**17


def in_parts(run: Callable[[int, int], object], n_rows: int, work: int) -> None:
    """Call ``run(first, last)`` on parts of ``range(n_rows)``, at once on as many as torch may use.

    Parameters
    ----------
    run : callable
        Releases the interpreter's lock, and does the same to a row whatever the parts.
    n_rows : int
    work : int
        Multiplications in all.
    """
    n_threads = max(1, min(torch.get_num_threads(), work // WORK_PER_THREAD))
    if n_threads == 1:
        run(0, n_rows)
        return
    parts = list(pairwise(np.linspace(0, n_rows, n_threads + 1).astype(int).tolist()))
    # A pool that lives as long as the call: threads that are kept do not survive a fork.
    with ThreadPoolExecutor(n_threads) as threads:
        list(threads.map(lambda part: run(*part), parts))
