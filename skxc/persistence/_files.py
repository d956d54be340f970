"""Files that are complete or absent: write beside, flush to the disk, rename.

A process that is killed leaves temporary files. Every writer holds a lock on its files while it
writes, which ends with the process, so that a later writer can tell files of the dead from those of
others at work. Nobody waits for anybody.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# Where there are no locks, files of this age, in seconds, are those of a dead process.
ABANDONED = 600
# The names that the safetensors format has for dtypes.
SAFETENSORS = {
    **{"bool": "BOOL", "float16": "F16", "float32": "F32", "float64": "F64"},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
}


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Make an empty file, and hold a lock on it until the end of the block."""
    descriptor = -1
    while descriptor < 0:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if not _lock(descriptor, path):
            os.close(descriptor)
            descriptor = -1
    if fcntl is None:  # an open file could not be replaced there
        os.close(descriptor)
    try:
        yield
    finally:
        if fcntl is not None:
            _unlock(descriptor)


def _lock(descriptor: int, path: Path) -> bool:
    """Lock a new file; False if another process has taken it for abandoned meanwhile."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks
    return path.exists() and os.path.samestat(os.fstat(descriptor), os.stat(path))


def _unlock(descriptor: int) -> None:
    # Closing alone would not do where a process was forked meanwhile.
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def remove_abandoned(
    paths: Iterable[Path], needed: Callable[[], Iterable[Path]] = lambda: ()
) -> None:
    """Remove those files that no living process is writing.

    Parameters
    ----------
    paths : iterable of Path
    needed : callable
        Returns the files that must stay. It is called when the others have stopped writing.
    """
    held = []
    try:
        for path in paths:
            descriptor = _held_if_abandoned(path)
            if descriptor is not None:
                held.append((path, descriptor))
        kept = set(needed()) if held else set()
        remove(path for path, _ in held if path not in kept)
    finally:
        for _, descriptor in held:
            _unlock(descriptor)


def _held_if_abandoned(path: Path) -> int | None:
    """Return a descriptor, with a lock, of a file that no process is writing; None otherwise."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None  # gone, or not ours
    try:
        if fcntl is None:
            raise OSError("no locks here")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        if time.time() - os.fstat(descriptor).st_mtime < ABANDONED:
            os.close(descriptor)
            return None
    return descriptor


def remove(paths: Iterable[Path]) -> None:
    """Remove files as far as the system lets."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            # Some systems keep files that a process still has mapped; a later call removes them.
            continue


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary sibling of `path`, then move it there in one step.

    Whatever stops the process, `path` holds either its old content or all of the new one. After an
    exception the temporary file is removed; those of killed processes are removed by the next call.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with claimed(temporary):
            write(temporary)
            flush(temporary)
            temporary.replace(path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
    remove_abandoned(temporaries(path))


def temporaries(path: Path) -> list[Path]:
    """Return the temporary siblings of a file that `write_atomically` has made."""
    start, end = f".{path.name}.", ".tmp"
    return [
        other
        for other in path.parent.iterdir()
        if other.name.startswith(start) and other.name.endswith(end)
    ]


def flush(path: Path) -> None:
    """Wait until a file, or the list of the files in a folder, is on the disk."""
    if path.is_dir() and os.name != "posix":
        return  # other systems cannot open a folder
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_arrays(
    path: Path, arrays: Mapping[str, NDArray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file, array by array, without a copy of all of them.

    The library would write a file of its own naming, and report a full disk as its own error.

    Parameters
    ----------
    path : Path
    arrays : mapping of str to ndarray
        Numbers or bool, in any memory layout.
    metadata : mapping of str to str, default=None

    References
    ----------
    https://github.com/huggingface/safetensors: length of the header as uint64, the header as JSON,
    the arrays behind each other.
    """
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    # The widest numbers first, as the library does, so that all of them are aligned.
    ordered = sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize)
    end = 0
    for name, array in ordered:
        start, end = end, end + array.nbytes
        kind = SAFETENSORS[array.dtype.name]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, array in ordered:
            native = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            file.write(native.reshape(-1).view(np.uint8).data)


def map_arrays(path: Path) -> dict[str, NDArray]:
    """Return the arrays of a safetensors file as read-only views of the file, which must stay.

    Raises
    ------
    ValueError, KeyError, TypeError
        The header does not describe the file.
    """
    file = np.memmap(path, dtype=np.uint8, mode="r")
    begin = 8 + int.from_bytes(file[:8].tobytes(), "little")
    dtypes = {kind: np.dtype(name) for name, kind in SAFETENSORS.items()}
    arrays = {}
    for name, entry in json.loads(file[8:begin].tobytes()).items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        if not 0 <= first <= last <= len(file) - begin:
            raise ValueError(f"`{name}` lies outside of the file")
        # A plain array, whose base is the map.
        flat = np.asarray(file[begin + first : begin + last]).view(dtypes[entry["dtype"]])
        array = flat.reshape(entry["shape"])
        arrays[name] = array if array.flags.aligned else array.copy()
    return arrays


def check_regular(path: Path) -> None:
    """Raise unless a path is a file of its folder: no link elsewhere, no device, pipe or folder.

    Raises
    ------
    FileNotFoundError
        There is nothing.
    ValueError
        It is something else.
    """
    found = path.stat()
    real = Path(os.path.realpath(path))
    if not stat.S_ISREG(found.st_mode) or real.parent != Path(os.path.realpath(path.parent)):
        raise ValueError(
            f"{path} must be a file of the folder, but is a link out of it, a folder or a device. "
            "Copy the file itself."
        )
