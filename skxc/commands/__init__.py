"""The command line of the package, thin over the estimators."""

from __future__ import annotations

from skxc.commands._main import main

__all__ = ["main"]
