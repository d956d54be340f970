"""From checked training data to the graph terms of both sides, and what data must fulfil for them.

Anchors are the nodes that samples and labels share. Without texts of their own they are the labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse as sp

from skxc._training_set import TrainingSet
from skxc.estimators._encoding import label_graph
from skxc.estimators._graph_regularized.terms import GraphTerm, GraphTerms
from skxc.exceptions import GraphWarning
from skxc.graphs import as_ones, keep_edges
from skxc.labels import AnchorGraph
from skxc.utils._same_text import same_text_pairs
from skxc.utils._validation import LARGEST_TOTAL


def graph_terms(data: TrainingSet, options: GraphTerms) -> list[GraphTerm]:
    """Return one term per graph and side that has edges and shall be used."""
    walk = options._part("walk")
    densify = as_ones if walk is None else walk.densify
    sides = {
        side: (edges, _hidden(side, data))
        for side, edges in _edges_of_sides(data).items()
        if options.sides in ("both", side) and edges is not None and edges.nnz
    }
    terms = []
    for graph, (start, stop) in _groups(data).items():
        for side, (edges, hidden) in sides.items():
            walked = densify(_between(edges, start, stop))
            if walked.nnz:
                terms.append(GraphTerm(graph, side, walked, hidden))
    return terms


def _edges_of_sides(data: TrainingSet) -> dict[str, sp.csr_array | None]:
    """Return the edges of both sides, None where there can be none.

    Labels lose their self loops where the anchors are the labels.
    """
    graph = data.graph
    labels = graph.to_csr() if isinstance(graph, AnchorGraph) else label_graph(data)
    return {"samples": data.sample_graph, "labels": labels}


def _groups(data: TrainingSet) -> dict[str, tuple[int, int]]:
    """Return the column range of every graph."""
    if isinstance(data.graph, AnchorGraph):
        return data.graph.groups
    return {} if data.graph is None else {"labels": (0, data.n_labels)}


def _between(edges: sp.csr_array, start: int, stop: int) -> sp.csr_array:
    """Return the edges whose columns lie in a range."""
    return keep_edges(edges, (edges.indices >= start) & (edges.indices < stop))


def _hidden(side: str, data: TrainingSet) -> sp.csr_array | None:
    """Return the (row, anchor) pairs that are no negatives, whatever the edges say.

    An anchor with the row's own text has its vector, and one with the text of a sample's label is
    what the task pulls the sample to.
    """
    if isinstance(data.graph, AnchorGraph):
        own = _same_text(data.label_features, data.graph, data.n_labels)
    else:
        own = sp.eye_array(data.n_labels, format="csr", dtype=np.float32)
    if side == "samples":
        own = sp.csr_array(data.y @ own)
        if isinstance(data.graph, AnchorGraph):
            own = own + _same_text(data.X, data.graph, data.n_samples)
    return sp.csr_array(own) if own.nnz else None


def _same_text(rows: Any, graph: AnchorGraph, n_rows: int) -> sp.csr_array:
    """Return the (row, anchor) pairs of one text; none where there are no texts."""
    none = sp.csr_array((n_rows, graph.n_anchors), dtype=np.float32)
    pairs = same_text_pairs(rows, graph.texts, none)
    return none if pairs is None else pairs


# ---- what data must fulfil


def check_columns(data: TrainingSet) -> None:
    """Raise unless the samples' edges lead to the anchors that the graph describes."""
    if data.sample_graph is None:
        return
    if data.graph is None:
        raise ValueError(
            "`sample_graph` needs `graph`: anchors need a text, but only edges were given. Pass "
            "graph=AnchorGraph(labels, texts), with labels=None where labels have no edges."
        )
    graph, n_columns = data.graph, data.sample_graph.shape[1]
    n_anchors = graph.n_anchors if isinstance(graph, AnchorGraph) else data.n_labels
    if n_columns != n_anchors:
        raise ValueError(
            f"`sample_graph` has {n_columns} columns but `graph` has {n_anchors} anchors. Pass "
            "one column per anchor, in the same order."
        )


def check_weights(weights: Any, data: TrainingSet) -> None:
    """Raise unless weights given graph by graph are a pair of numbers for every graph."""
    if not isinstance(weights, Mapping):
        return
    for graph in _groups(data):
        if graph not in weights:
            raise ValueError(
                f"`weights` of GraphTerms must have a pair for every graph, but has none for "
                f"{graph!r}. Add {{{graph!r}: (sample weight, label weight)}}."
            )
    for graph, pair in weights.items():
        is_pair = isinstance(pair, tuple | list) and len(pair) == 2
        if not (
            is_pair and all(isinstance(w, Real) and 0 <= float(w) <= LARGEST_TOTAL for w in pair)
        ):
            raise ValueError(
                "`weights` of GraphTerms must be pairs (sample weight, label weight) of numbers "
                f"from 0 to {LARGEST_TOTAL:g}, but has {pair!r} for {graph!r}. Pass both weights."
            )


def warn_of_what_cannot_act(data: TrainingSet, options: GraphTerms, n_epochs: int) -> None:
    """Warn of a graph without edges, with edges on one side, or that is never pruned."""
    if data.graph is None:
        return
    sides, pruning = _edges_of_sides(data), options._part("prune")
    found = [side for side, edges in sides.items() if edges is not None and edges.nnz]
    if not found:
        problem = "has no edge, so nothing is regularised. Check how it was built."
    # A graph that says by None that its labels have no edges is meant that way.
    elif len(found) == 1 and sides["labels"] is not None and options.sides == "both":
        problem = (
            f"has edges of {found[0]} only, and one side alone need not help. Pass the other side "
            f"too, or set terms__sides={found[0]!r}."
        )
    elif pruning is not None and n_epochs <= pruning.warmup:
        problem = (
            f"is never pruned: training has {n_epochs} epochs and `warmup` of Pruning is "
            f"{pruning.warmup}. Lower it, or set terms__prune=False."
        )
    else:
        return
    warnings.warn(f"`graph` {problem}", GraphWarning, stacklevel=2)
