"""Which labels a batch is scored against, and which of them are positive. numpy only."""

from __future__ import annotations

from typing import Annotated

from sklearn.base import clone

from skxc._params import MadeBy, OneOf
from skxc.negatives._all_labels import AllLabels
from skxc.negatives._in_batch import InBatch
from skxc.negatives._mined import Mined
from skxc.negatives._pairs import membership, sample_positives
from skxc.negatives.base import Negatives, Search
from skxc.utils._registry import make_by_name

__all__ = [
    "AllLabels",
    "InBatch",
    "Mined",
    "Negatives",
    "Search",
    "make_negatives",
    "membership",
    "sample_positives",
]

#: Every source of negatives by its name. A new one is a file and a line here.
NAMES: dict[str, str] = {
    "in_batch": "skxc.negatives._in_batch:InBatch",
    "clustered": "skxc.negatives._in_batch:clustered",
    "mined": "skxc.negatives._mined:Mined",
    "all": "skxc.negatives._all_labels:AllLabels",
}
#: The type of a parameter that takes a source of negatives.
NegativesLike = Annotated[str, OneOf(NAMES), MadeBy("skxc.negatives:make_negatives")] | Negatives


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
    return make_by_name(NAMES, negatives, "negatives", Negatives)
