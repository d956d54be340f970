"""Registries: names of a room's objects, and where what makes each of them is."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any


def import_target(target: str) -> Any:
    """Return what ``module:name`` stands for."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def make_by_name(names: Mapping[str, str], value: Any, parameter: str, base: type) -> Any:
    """Return a new object of a registered name, with its default parameters.

    Parameters
    ----------
    names : mapping of str to str
        The registry: ``module:name`` of a class or function without required arguments.
    value : object
        The name.
    parameter : str
        What the name was given for.
    base : type
        What could be given instead.

    Raises
    ------
    ValueError
        If it is no such name.
    """
    if isinstance(value, str) and value in names:
        return import_target(names[value])()
    room = base.__module__.rpartition(".")[0]
    raise ValueError(
        f"`{parameter}` must be one of {sorted(names)} or a {room}.{base.__name__}, "
        f"but is {value!r}."
    )
