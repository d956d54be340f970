"""Optional packages: import one, or say which extra installs it."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def import_optional(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional package, or raise the ImportError that names its extra.

    Parameters
    ----------
    module : str
        Name to import, such as ``"faiss"``.
    extra : str
        The extra of the package that installs it: ``pip install skxc[extra]``.
    purpose : str
        What needs it, as the subject of a sentence: ``FaissIndex``.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    ImportError
        The package is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        # A package that is there but misses one of its own parts is a different problem: show that
        # one.
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        message = (
            f"{purpose} needs the optional package `{module}`, which is not installed. "
            f'Install it with `pip install "skxc[{extra}]"`.'
        )
        raise ImportError(message, name=module) from error
