"""Losses by name."""

from __future__ import annotations

from skxc.losses._binary import BinaryCrossEntropy
from skxc.losses._prob_contrastive import ProbContrastive
from skxc.losses._soft_topk import SoftTopK
from skxc.losses._softmax import BalancedSoftmax, DecoupledSoftmax, Softmax
from skxc.losses._triplet import Triplet
from skxc.losses.base import Loss

_LOSSES: dict[str, type[Loss]] = {
    "decoupled": DecoupledSoftmax,
    "softmax": Softmax,
    "balanced": BalancedSoftmax,
    "soft_topk": SoftTopK,
    "triplet": Triplet,
    "prob_contrastive": ProbContrastive,
    "bce": BinaryCrossEntropy,
}


def make_loss(loss: str | Loss) -> Loss:
    """Return the loss of a name, or the loss itself.

    Parameters
    ----------
    loss : str or Loss
        "decoupled", "softmax", "balanced", "soft_topk", "triplet", "prob_contrastive" or "bce": the
        loss of that name with its default parameters.

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
    if isinstance(loss, str) and loss in _LOSSES:
        return _LOSSES[loss]()
    raise ValueError(
        f"`loss` must be one of {sorted(_LOSSES)} or a skxc.losses.Loss, but is {loss!r}."
    )
