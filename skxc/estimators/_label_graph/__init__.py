"""ECLARE: recipe, its parts, what it trains, and the model that it returns."""

from skxc.estimators._label_graph.classifiers import Classifiers
from skxc.estimators._label_graph.clusters import LabelClusters
from skxc.estimators._label_graph.member import Ranker
from skxc.estimators._label_graph.recipe import LabelGraphXC

__all__ = ["Classifiers", "LabelClusters", "LabelGraphXC", "Ranker"]
