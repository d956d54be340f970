"""Losses over a pool of labels, with every positive of the pool in it. Needs torch."""

from __future__ import annotations

from skxc.losses._binary import BinaryCrossEntropy
from skxc.losses._make import make_loss
from skxc.losses._prob_contrastive import ProbContrastive
from skxc.losses._soft_topk import SoftTopK, soft_topk
from skxc.losses._softmax import BalancedSoftmax, DecoupledSoftmax, Softmax
from skxc.losses._triplet import Triplet
from skxc.losses.base import Loss, Positives

__all__ = [
    "BalancedSoftmax",
    "BinaryCrossEntropy",
    "DecoupledSoftmax",
    "Loss",
    "Positives",
    "ProbContrastive",
    "SoftTopK",
    "Softmax",
    "Triplet",
    "make_loss",
    "soft_topk",
]
