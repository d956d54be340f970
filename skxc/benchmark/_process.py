"""CPU seconds and peak memory of a process together with the processes that it started (Linux).

Where there is no /proc, only the CPU of the process itself and of its ended children is known.
"""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The kernel keeps each process's peak, so that only what ends between two looks can be missed.
SAMPLE_SECONDS = 0.2
_PROC = Path("/proc")


def cpu_seconds() -> float:
    """Return user plus system seconds of this process and of all its children, living or ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = sum(_cpu_of(pid) for pid in _descendants(os.getpid()))
    return time.process_time() + ended.ru_utime + ended.ru_stime + living


def timed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, float, float]:
    """Call a function; return its result, `cpu_seconds` and wall seconds that it took."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    result = function(*args, **kwargs)
    return result, cpu_seconds() - cpu, time.perf_counter() - wall


def wait(process: subprocess.Popen) -> float | None:
    """Wait for a process to end; return the most MiB that it and its children held."""
    peak = 0
    try:
        while process.poll() is None:
            family = [process.pid, *_descendants(process.pid)]
            peak = max(peak, sum(_high_water_kib(pid) for pid in family))
            time.sleep(SAMPLE_SECONDS)
    finally:
        process.kill()  # when interrupted
    return round(peak / 1024, 1) if peak else None


def _read(pid: int, name: str) -> str:
    """Return the content of /proc/PID/NAME, empty if the process has ended."""
    try:
        return (_PROC / str(pid) / name).read_text()
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the command's name."""
    return _read(pid, "stat").rpartition(")")[2].split()


def _descendants(pid: int) -> list[int]:
    """Return the processes below `pid`: children, their children and so on."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.glob("[0-9]*"):
        if fields := _stat(int(entry.name)):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = list(children.get(pid, []))
    for child in found:  # the list grows while it is read
        found += children.get(child, [])
    return found


def _cpu_of(pid: int) -> float:
    """Return the CPU seconds of one process and of those of its children that have ended."""
    return sum(map(int, _stat(pid)[11:15])) / os.sysconf("SC_CLK_TCK")


def _high_water_kib(pid: int) -> int:
    """Return the peak resident memory of one process in KiB, 0 if it has ended."""
    lines = _read(pid, "status").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
