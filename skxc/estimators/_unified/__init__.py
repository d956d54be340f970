"""UniDEC: recipe, parts, what it trains, and the model that it returns."""

from skxc.estimators._unified.heads import TwoHeads
from skxc.estimators._unified.pool import LabelPool
from skxc.estimators._unified.recipe import UnifiedXC
from skxc.estimators._unified.task import LabelTable

__all__ = ["LabelPool", "LabelTable", "TwoHeads", "UnifiedXC"]
