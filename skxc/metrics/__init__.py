"""Metrics of rankings over very many labels; all take CSR and never build an n x L array."""

from skxc.metrics._calibration import ece_at_k
from skxc.metrics._evaluate import evaluate
from skxc.metrics._propensity import inverse_propensity, psndcg_at_k, psp_at_k
from skxc.metrics._ranking import (
    coverage_at_k,
    macro_f1_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
)
from skxc.metrics._scorers import get_scorer, topk_scorer

__all__ = [
    "coverage_at_k",
    "ece_at_k",
    "evaluate",
    "get_scorer",
    "inverse_propensity",
    "macro_f1_at_k",
    "ndcg_at_k",
    "precision_at_k",
    "psndcg_at_k",
    "psp_at_k",
    "recall_at_k",
    "topk_scorer",
]
