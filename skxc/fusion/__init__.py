"""Rules that combine the top-k lists of several models; without torch."""

from __future__ import annotations

from skxc.fusion._boosted import BoostedTrees
from skxc.fusion._candidates import Candidates, collect_candidates
from skxc.fusion._combiner import Combiner
from skxc.fusion._learn import Learned, learn_combiner
from skxc.fusion._objective import Objective, make_objective

__all__ = [
    "BoostedTrees",
    "Candidates",
    "Combiner",
    "Learned",
    "Objective",
    "collect_candidates",
    "learn_combiner",
    "make_objective",
]
