"""The neighbours of a label in a label graph, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.inspection._axes import axes_or_new
from skxc.labels import LabelGraph
from skxc.utils._validation import checked_sparse


@dataclass(frozen=True)
class Neighborhood:
    """What `label_neighborhood` returns; ``print`` shows it as a table.

    Attributes
    ----------
    label : int
        Id of the label.
    name : str
        Its name.
    loop : float
        Weight of the edge from the label to itself, 0 without one.
    neighbors : ndarray of int64, shape (m,)
        Ids of its neighbours, the heaviest edge first.
    names : list of str
        Their names.
    weights : ndarray of float64, shape (m,)
        Weights of the edges.
    """

    label: int
    name: str
    loop: float
    neighbors: NDArray[np.int64]
    names: list[str]
    weights: NDArray[np.float64]

    def __str__(self) -> str:
        lines = [f"{self.name} (itself {self.loop:.3f})"]
        lines += [f"{w:7.3f}  {name}" for w, name in zip(self.weights, self.names, strict=True)]
        return "\n".join(lines if self.names else [*lines, "  no neighbours"])


def label_neighborhood(
    graph: Any, label: int | str, *, names: Sequence[str] | None = None, n_neighbors: int = 10
) -> Neighborhood:
    """Return the heaviest edges of a label.

    Parameters
    ----------
    graph : sparse matrix of shape (L, L), LabelGraph, or fitted estimator
        An estimator with a `label_graph_`, such as `LabelGraphXC`, brings its label names along.
    label : int or str
        Id or name of the label.
    names : sequence of L str, default=None
        Label names; None takes the estimator's, or the ids.
    n_neighbors : int, default=10
        Largest number of neighbours.

    Returns
    -------
    Neighborhood

    Raises
    ------
    ValueError
        If there is no such label, or no graph.

    Examples
    --------
    >>> import numpy as np
    >>> from skxc.inspection import label_neighborhood
    >>> graph = np.array([[0.5, 0.3, 0.2], [0.3, 0.7, 0.0], [0.2, 0.0, 0.8]])
    >>> print(label_neighborhood(graph, "wine", names=["wine", "grape", "oak"]))
    wine (itself 0.500)
      0.300  grape
      0.200  oak
    """
    edges, known = _edges_and_names(graph)
    if names is None:
        names = known if known is not None else [str(i) for i in range(edges.shape[0])]
    own = _label_id(label, names, edges.shape[0])
    row = edges[[own]]
    order = np.lexsort((row.indices, -row.data))
    order = order[row.indices[order] != own][:n_neighbors]
    neighbors = row.indices[order].astype(np.int64)
    return Neighborhood(
        label=own,
        name=str(names[own]),
        loop=float(row.data[row.indices == own].sum()),
        neighbors=neighbors,
        names=[str(names[neighbor]) for neighbor in neighbors],
        weights=row.data[order].astype(np.float64),
    )


def plot_label_neighborhood(neighborhood: Neighborhood, *, ax: Any = None) -> Any:
    """Draw a label in the middle of its neighbours; wide lines are heavy edges.

    Parameters
    ----------
    neighborhood : Neighborhood
        What `label_neighborhood` returned.
    ax : matplotlib Axes, default=None
        Where to draw; None makes a new figure.

    Returns
    -------
    Axes
        With names and weights; ``ax.figure.savefig(...)`` saves it.

    Raises
    ------
    ImportError
        If matplotlib is not installed: ``pip install skxc[plot]``.
    """
    ax = axes_or_new(ax, 7, 5)
    angles = 2 * np.pi * np.arange(len(neighborhood.names)) / max(len(neighborhood.names), 1)
    heaviest = max(neighborhood.weights.max(initial=0), 1e-12)
    box = {"boxstyle": "round", "facecolor": "white", "edgecolor": "lightgray"}
    for angle, name, weight in zip(angles, neighborhood.names, neighborhood.weights, strict=True):
        x, y = np.cos(angle), np.sin(angle)
        ax.plot([0, x], [0, y], color="tab:blue", linewidth=0.5 + 5 * weight / heaviest, zorder=1)
        ax.text(x, y, f"{name}\n{weight:.3f}", ha="center", va="center", fontsize=8, bbox=box)
    ax.text(
        0, 0, neighborhood.name, ha="center", va="center", weight="bold",
        bbox={**box, "edgecolor": "tab:blue"},
    )  # fmt: skip
    ax.set_xlim(-1.4, 1.4)
    ax.set_ylim(-1.25, 1.25)
    ax.set_axis_off()
    return ax


def _edges_and_names(graph: Any) -> tuple[sp.csr_array, Sequence[str] | None]:
    names = getattr(graph, "label_names_", None)
    if hasattr(graph, "fit"):
        if getattr(graph, "label_graph_", None) is None:
            raise ValueError(
                f"`graph` is a {type(graph).__name__} without `label_graph_`. Pass a fitted "
                "LabelGraphXC, or a graph."
            )
        graph = graph.label_graph_
    graph = checked_sparse(graph, "graph") if sp.issparse(graph) else graph
    edges = graph.to_csr() if isinstance(graph, LabelGraph) else sp.csr_array(graph)
    if edges.shape[0] != edges.shape[1]:
        raise ValueError(
            f"`graph` must have one row and one column per label, but has the shape {edges.shape}."
        )
    return edges, names


def _label_id(label: int | str, names: Sequence[str], n_labels: int) -> int:
    if isinstance(label, str):
        if label not in names:
            raise ValueError(f"`label` must be the name of a label, but none is called {label!r}.")
        return names.index(label)
    if not 0 <= label < n_labels:
        raise ValueError(f"`label` must be between 0 and {n_labels - 1}, but is {label}.")
    return int(label)
