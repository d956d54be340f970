"""Loops compiled by numba, kept in a cache where a folder lets it.

numba alone fails on import where it finds no folder to write to, and does not read a folder that
it cannot write to. Containers have both: no home, and a cache that was filled with the image.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import caching, event
from tqdm import tqdm

__all__ = ["compiled"]

Function = TypeVar("Function", bound=Callable[..., Any])
#: All functions that this package compiles, of the modules that were imported.
FUNCTIONS: list[Any] = []
_LOG = logging.getLogger("skxc")


# Older versions of numba start these names with an underscore.
_UserProvided: Any = getattr(caching, "UserProvidedCacheLocator", None)
_UserProvided = _UserProvided or caching._UserProvidedCacheLocator
_InTree: Any = getattr(caching, "InTreeCacheLocator", None) or caching._InTreeCacheLocator


class _ReadOnly:
    """A place of numba's cache that need not be writable."""

    def ensure_cache_path(self) -> None:
        """Check nothing: what cannot be read counts as absent."""


class _ReadOnlyUserProvided(_ReadOnly, _UserProvided):
    """The folder that NUMBA_CACHE_DIR names."""


class _ReadOnlyInTree(_ReadOnly, _InTree):
    """``__pycache__`` beside the module."""


def _read_only(locator: type) -> type[caching.FunctionCache]:
    """Return numba's cache of a function at one place."""
    place = {"_locator_classes": [locator]}
    impl = type("_ReadOnlyImpl", (caching.CompileResultCacheImpl,), place)
    return type("_ReadOnlyCache", (caching.FunctionCache,), {"_impl_class": impl})


_READ_ONLY = tuple(map(_read_only, (_ReadOnlyUserProvided, _ReadOnlyInTree)))


class Cache(caching.NullCache):
    """numba's cache of one function, whose troubles cost time and nothing else.

    Parameters
    ----------
    function : callable
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._caches = list(_caches(function))

    @property
    def cache_path(self) -> str | None:
        """The folder that is written to, None where there is none."""
        return self._caches[0].cache_path if self._writable else None

    @property
    def _writable(self) -> bool:
        return bool(self._caches) and not isinstance(self._caches[0], _READ_ONLY)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the function compiled for a signature, or None."""
        for cache in self._caches:
            try:
                found = cache.load_overload(sig, target_context)
            except Exception:
                # A file that a full disk or a killed process left behind: start it anew.
                with suppress(OSError):
                    cache.flush()
                continue
            if found is not None:
                return found
        return None

    def save_overload(self, sig: Any, cres: Any) -> None:
        """Keep what was compiled; without a place, or without space, it is lost with the process.

        Parameters
        ----------
        sig : signature
        cres : CompileResult
        """
        if self._writable:
            with suppress(OSError):
                self._caches[0].save_overload(sig, cres)


def _caches(function: Callable[..., Any]) -> Iterator[caching.FunctionCache]:
    """Yield the cache that is written to, if there is one, then those that are only read."""
    for cls in (caching.FunctionCache, *_READ_ONLY):
        with suppress(RuntimeError, OSError):  # there is no such folder
            yield cls(function)


class _Progress(event.Listener):
    """Says that functions are being compiled: a line in the log, and a bar on a terminal."""

    def __init__(self) -> None:
        self._depth = 0
        self._bar: tqdm | None = None
        self._told = False

    def on_start(self, event: Any) -> None:
        """Show that a function is being compiled."""
        cache = getattr(event.data["dispatcher"], "_cache", None)
        if not isinstance(cache, Cache):
            return
        self._depth += 1
        if self._bar is None:
            self._tell(cache)
            self._bar = tqdm(desc="compiling", unit="function", leave=False, disable=None)

    def on_end(self, event: Any) -> None:
        """Count the function; the outermost one, which ends last, ends the bar."""
        if not isinstance(getattr(event.data["dispatcher"], "_cache", None), Cache):
            return
        self._depth -= 1
        if self._bar is not None:
            self._bar.update()
            if not self._depth:
                self._bar.close()
                self._bar = None

    def _tell(self, cache: Cache) -> None:
        if self._told:
            return
        self._told = True
        if cache.cache_path is None:
            _LOG.warning(
                "No folder for compiled functions can be written to, so every process compiles "
                "them anew, which takes up to 40 s. Set NUMBA_CACHE_DIR to a folder that can, or "
                "run `python -m skxc warm-up` when the image is built."
            )
        else:
            _LOG.info("Compiling, once on this machine: kept in %s.", Path(cache.cache_path))


event.register("numba:compile", _Progress())


def compiled(function: Function, fastmath: frozenset[str] = frozenset()) -> Function:
    """Compile a function when it is first called with arguments of some types.

    Parameters
    ----------
    function : callable
    fastmath : set of str, default=frozenset()
        What the compiler may assume of floating-point numbers, by LLVM's names.
    """
    njit = numba.njit(nogil=True, error_model="numpy", fastmath=set(fastmath))
    dispatcher = njit(function)
    dispatcher._cache = Cache(function)
    FUNCTIONS.append(dispatcher)
    return dispatcher
