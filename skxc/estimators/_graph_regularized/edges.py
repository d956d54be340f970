"""From checked training data to the edges of both sides, and what data must fulfil for them.

Anchors are the nodes that samples and labels share. Without texts of their own they are the labels.
Anchors of equal text are one anchor, the first of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from skxc._training_set import TrainingSet
from skxc.estimators._encoding import label_graph
from skxc.exceptions import GraphWarning
from skxc.graphs import as_ones, keep_edges
from skxc.labels import AnchorGraph
from skxc.utils._same_text import same_text_pairs
from skxc.utils._validation import LARGEST_TOTAL

if TYPE_CHECKING:
    from skxc.estimators._graph_regularized.terms import GraphTerms


@dataclass
class GraphTerm:
    """One metadata graph on one side.

    Attributes
    ----------
    graph : str
        Name of the graph.
    side : {"samples", "labels"}
    walked : csr_array of shape (n or L, n_anchors)
        All edges, before pruning; columns of other graphs are empty.
    hidden : csr_array of the same shape, or None
        Pairs that are neither positives nor negatives, such as an anchor with the row's own text.
    edges : csr_array
        The edges that are left: what is drawn, and what counts as a positive.
    """

    graph: str
    side: str
    walked: sp.csr_array
    hidden: sp.csr_array | None = None
    edges: sp.csr_array = field(init=False)

    def __post_init__(self) -> None:
        self.edges = self.walked

    @property
    def name(self) -> str:
        """Such as "tag (labels)"."""
        return f"{self.graph} ({self.side})"


def graph_terms(data: TrainingSet, options: GraphTerms) -> list[GraphTerm]:
    """Return one term per graph and side that has edges and shall be used."""
    if data.graph is None:
        return []
    walk = options._part("walk")
    densify = as_ones if walk is None else walk.densify
    first, hidden = _first_of_equal(_anchor_rows(data)), _hidden(data)
    terms = []
    for graph, (start, stop) in _groups(data).items():
        for side, edges in _edges_of_sides(data).items():
            if options.sides not in ("both", side) or edges is None or not edges.nnz:
                continue
            columns = (edges.indices >= start) & (edges.indices < stop)
            walked = densify(_merged(keep_edges(edges, columns), first))
            # What another graph links by an anchor of the same text is no negative either.
            more = _merged(keep_edges(edges, ~columns), first)
            more = keep_edges(more, np.isin(more.indices, walked.indices))
            if walked.nnz:
                known = sp.csr_array(_merged(hidden[side], first) + more)
                terms.append(GraphTerm(graph, side, walked, known if known.nnz else None))
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


def _anchor_rows(data: TrainingSet) -> Any:
    """Return texts or features of the anchors, None where labels have neither."""
    return data.graph.texts if isinstance(data.graph, AnchorGraph) else data.label_features


def _first_of_equal(anchors: Any) -> Any:
    """Return the first anchor with the text of each; None where there are no texts."""
    if not isinstance(anchors, np.ndarray):
        return None
    first: dict[str, int] = {}
    return np.array([first.setdefault(text, anchor) for anchor, text in enumerate(anchors)])


def _merged(edges: sp.csr_array, first: Any) -> sp.csr_array:
    """Return ones for the edges, with the first of equal anchors in the place of each."""
    columns = edges.indices if first is None else first[edges.indices]
    ones = np.ones(edges.nnz, dtype=np.float32)
    merged = sp.csr_array((ones, columns, edges.indptr.copy()), shape=edges.shape)
    merged.sum_duplicates()
    return as_ones(merged)


def _hidden(data: TrainingSet) -> dict[str, sp.csr_array]:
    """Return the (row, anchor) pairs of both sides that are no negatives, whatever the edges say.

    An anchor with the row's own text has its vector. One with the text of a label of the sample,
    or of a training row of the label, is what the task pulls the row to.
    """
    anchors = _anchor_rows(data)
    n_anchors = data.n_labels if anchors is None else anchors.shape[0]
    samples = _same_text(data.X, anchors, (data.n_samples, n_anchors))
    if isinstance(data.graph, AnchorGraph):
        labels = _same_text(data.label_features, anchors, (data.n_labels, n_anchors))
    else:
        labels = sp.csr_array(sp.eye_array(data.n_labels, format="csr", dtype=np.float32))
    return {
        "samples": sp.csr_array(samples + data.y @ labels),
        "labels": sp.csr_array(labels + data.y.T @ samples),
    }


def _same_text(rows: Any, anchors: Any, shape: tuple[int, int]) -> sp.csr_array:
    """Return the (row, anchor) pairs of one text; none where there are no texts."""
    none = sp.csr_array(shape, dtype=np.float32)
    pairs = same_text_pairs(rows, anchors, none)
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


def check_beside(terms: GraphTerms) -> None:
    """Raise if terms that are not beside the task have what only those can use."""
    if terms.schedule == "first" and (terms.weights is not None or terms.prune is not False):
        name = "prune" if terms.weights is None else "weights"
        raise ValueError(
            f"`{name}` of GraphTerms is for losses beside the task, but `schedule` is 'first' and "
            f"`{name}` is {getattr(terms, name)!r}. Set schedule='fade' or 'constant'."
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
