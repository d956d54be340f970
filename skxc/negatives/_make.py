"""Sources of negatives by name."""

from __future__ import annotations

from collections.abc import Callable

from sklearn.base import clone

from skxc.negatives._all_labels import AllLabels
from skxc.negatives._in_batch import InBatch
from skxc.negatives._mined import Mined
from skxc.negatives.base import Negatives

_NEGATIVES: dict[str, Callable[[], Negatives]] = {
    "in_batch": InBatch,
    "clustered": lambda: InBatch(clustered=True),
    "mined": Mined,
    "all": AllLabels,
}


def make_negatives(negatives: str | Negatives) -> Negatives:
    """Return the source of a name, or a copy of an object with its parameters and nothing mined.

    Parameters
    ----------
    negatives : str or Negatives
        "in_batch"; "clustered", the same pool over batches of similar queries; "mined", which
        includes clustered batches; or "all".

    Returns
    -------
    Negatives
        Not prepared yet.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if isinstance(negatives, Negatives):
        return clone(negatives)
    if isinstance(negatives, str) and negatives in _NEGATIVES:
        return _NEGATIVES[negatives]()
    raise ValueError(
        f"`negatives` must be one of {sorted(_NEGATIVES)} or a skxc.negatives.Negatives, but is "
        f"{negatives!r}."
    )
