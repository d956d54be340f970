"""The axes that a plot draws into."""

from __future__ import annotations

from typing import Any

from skxc.utils._optional import import_optional


def axes_or_new(ax: Any, width: float, height: float) -> Any:
    """Return given axes, or those of a new figure of so many inches."""
    if ax is None:
        pyplot = import_optional("matplotlib.pyplot", extra="plot", purpose="The plot")
        _, ax = pyplot.subplots(figsize=(width, height), layout="constrained")
    return ax
