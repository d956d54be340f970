"""The dual encoder that graphs regularise: recipe, edges, graph terms, and their weights."""

from skxc.estimators._graph_regularized.bandit import Bandit
from skxc.estimators._graph_regularized.recipe import GraphRegularizedXC
from skxc.estimators._graph_regularized.terms import GraphTerms

__all__ = ["Bandit", "GraphRegularizedXC", "GraphTerms"]
