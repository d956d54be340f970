"""The dual encoder that graphs regularise: recipe, edges, graph terms, and their weights."""

from skxc.estimators._graph_regularized.recipe import GraphRegularizedXC

__all__ = ["GraphRegularizedXC"]
