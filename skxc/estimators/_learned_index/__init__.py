"""The learned index: recipe, its parts, what it trains, and the model that it returns."""

from skxc.estimators._learned_index.clusters import IndexClusters
from skxc.estimators._learned_index.edges import Edges
from skxc.estimators._learned_index.recipe import LearnedIndexXC
from skxc.estimators._learned_index.task import LabelClassifiers

__all__ = ["Edges", "IndexClusters", "LabelClassifiers", "LearnedIndexXC"]
