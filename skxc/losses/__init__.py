"""Losses over a pool of labels, with every positive of the pool in it.

To compute one needs torch; the room itself loads without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from skxc._params import MadeBy, OneOf
from skxc.losses.base import LogitLoss, Loss, Positives
from skxc.utils._registry import import_target, make_by_name

if TYPE_CHECKING:
    from skxc.losses._binary import BinaryCrossEntropy as BinaryCrossEntropy
    from skxc.losses._prob_contrastive import ProbContrastive as ProbContrastive
    from skxc.losses._soft_topk import SoftTopK as SoftTopK
    from skxc.losses._soft_topk import soft_topk
    from skxc.losses._softmax import BalancedSoftmax as BalancedSoftmax
    from skxc.losses._softmax import DecoupledSoftmax as DecoupledSoftmax
    from skxc.losses._softmax import Softmax as Softmax
    from skxc.losses._triplet import Triplet as Triplet

#: Every loss by its name. A new one is a file and a line here; type checkers want an import above.
NAMES: dict[str, str] = {
    "decoupled": "skxc.losses._softmax:DecoupledSoftmax",
    "softmax": "skxc.losses._softmax:Softmax",
    "balanced": "skxc.losses._softmax:BalancedSoftmax",
    "soft_topk": "skxc.losses._soft_topk:SoftTopK",
    "triplet": "skxc.losses._triplet:Triplet",
    "prob_contrastive": "skxc.losses._prob_contrastive:ProbContrastive",
    "bce": "skxc.losses._binary:BinaryCrossEntropy",
}
#: The type of a parameter that takes a loss.
LossLike = Annotated[str, OneOf(NAMES), MadeBy("skxc.losses:make_loss")] | Loss

# These modules import torch, and are loaded on first use.
_TARGETS = {target.partition(":")[2]: target for target in NAMES.values()}
_TARGETS["soft_topk"] = "skxc.losses._soft_topk:soft_topk"

__all__ = ["LogitLoss", "Loss", "Positives", "make_loss", "soft_topk"]
__all__ += sorted(_TARGETS.keys() - {"soft_topk"})


def make_loss(loss: str | Loss, temperature: float | None = None) -> Loss:
    """Return the loss of a name, or the loss itself.

    Parameters
    ----------
    loss : str or Loss
        One of `NAMES`: the loss of that name with its default parameters.
    temperature : float or None, default=None
        Replaces the default temperature of a loss of logits that is given by its name.

    Returns
    -------
    Loss

    Raises
    ------
    ValueError
        If it is neither.
    """
    if isinstance(loss, Loss):
        return loss
    made: Loss = make_by_name(NAMES, loss, "loss", Loss)
    if temperature is not None and made.uses_temperature:
        made.set_params(temperature=temperature)
    return made


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _TARGETS:
            return import_target(_TARGETS[name])
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
