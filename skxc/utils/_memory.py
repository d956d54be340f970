"""How much memory a fit will take, against what the machine has."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["check_memory", "memory_in_use", "memory_limit"]

GIB = 2**30
# Files of the limits of a container, of both versions of Linux's control groups.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_limit() -> int | None:
    """Return the bytes that this process can have at most; None where nothing tells."""
    found = []
    with suppress(ValueError, OSError, AttributeError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in _LIMITS:
        with suppress(ValueError, OSError):  # "max", or no such file
            found.append(int(Path(path).read_text()))
    return min(found, default=None)


def memory_in_use() -> int:
    """Return the bytes of this process in memory, 0 where nothing tells."""
    with suppress(ValueError, OSError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0


def check_memory(name: str, needed: int, *, verbose: int = 0) -> None:
    """Raise MemoryError where a fit has no room; with `verbose` write what it takes at least.

    Parameters
    ----------
    name : str
        Name of the estimator.
    needed : int
        Bytes of the largest arrays that `fit` holds at once. Smaller ones are not counted, so that
        nothing is refused that would have room.
    verbose : int, default=0
    """
    limit = memory_limit()
    total = needed + memory_in_use()
    if limit is not None and total > limit:
        raise MemoryError(
            f"`fit` of {name} needs {total / GIB:.1f} GiB of memory with what is in use already, "
            f"but this process can have {limit / GIB:.1f} GiB. Lower the dimension of the encoder, "
            "or leave rare labels out."
        )
    if verbose:
        of = "" if limit is None else f" of {limit / GIB:.1f}"
        sys.stderr.write(f"{name}: {total / GIB:.1f}{of} GiB of memory at least\n")
