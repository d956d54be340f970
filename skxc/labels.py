"""Holders of what belongs to the labels: graphs, anchors and texts.

Cross-validation tools cut every fit argument that looks like an array with as many rows as there
are samples. A label-side matrix must never be cut, so the holders look like nothing that could be:
no length, no shape, no indexing. They are immutable, and a copy of one is the holder itself, which
makes ``clone`` cheap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.exceptions import SlicedLabelSideError
from skxc.utils._validation import as_csr, as_names, as_texts, check_total, holds_texts

__all__ = ["AnchorGraph", "LabelGraph", "LabelTexts"]

TextsOrFeatures: TypeAlias = NDArray[np.object_] | sp.csr_array


class _Holder:
    """An opaque, immutable box around one tuple."""

    __slots__ = ("__weakref__", "_value")

    _value: tuple[Any, ...]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable; build a new one.")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable; build a new one.")

    def __copy__(self) -> _Holder:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> _Holder:
        return self  # clone() then shares the arrays instead of copying them

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self._value)


def _fill(holder: _Holder, *value: Any) -> None:
    """Set the content of a new holder, and make its arrays read-only."""
    for part in value:
        is_csr = isinstance(part, sp.csr_array)
        for array in (part.data, part.indices, part.indptr) if is_csr else (part,):
            if isinstance(array, np.ndarray):
                array.flags.writeable = False
    object.__setattr__(holder, "_value", value)


def _restore(kind: type[_Holder], value: tuple[Any, ...]) -> _Holder:
    """Return an unpickled holder: no checks and no copies, its arrays may be memory maps."""
    holder = kind.__new__(kind)
    _fill(holder, *value)
    return holder


def _as_edges(matrix: Any, name: str) -> sp.csr_array:
    """Return a copy of a non-negative matrix of edge weights as canonical CSR."""
    edges = as_csr(matrix, name).copy()
    if not np.all(np.isfinite(edges.data)):
        raise ValueError(
            f"`{name}` must hold finite edge weights, but holds NaN or infinite ones. "
            "Remove these edges."
        )
    if edges.nnz and edges.data.min() < 0:
        raise ValueError(
            f"`{name}` must hold non-negative edge weights, but the smallest is "
            f"{edges.data.min():g}. Drop or rescale negative edges."
        )
    check_total(name, edges.data)
    return edges


def _as_texts_or_features(value: Any, name: str) -> TextsOrFeatures:
    """Return a copy of texts as an object array, or of a feature matrix as canonical CSR."""
    value = list(value) if isinstance(value, Iterator) else value
    if isinstance(value, str | bytes) or holds_texts(value):
        return as_texts(value, name)
    return as_csr(value, name, kind="sequence of texts, or a matrix").copy()


class LabelGraph(_Holder):
    """A graph between labels that cross-validation never cuts.

    Parameters
    ----------
    adjacency : sparse matrix, sparse array or array-like of shape (n_labels, n_labels)
        Non-negative edge weights; row l holds the neighbours of label l. It is copied, repeated
        entries are added up and stored zeros dropped.

    Raises
    ------
    ValueError
        The matrix is not square, or holds negative, infinite or NaN weights.

    Examples
    --------
    >>> import numpy as np
    >>> from skxc import LabelGraph
    >>> LabelGraph(np.array([[0, 1], [1, 0]]))
    LabelGraph(n_labels=2, n_edges=2)
    """

    __slots__ = ()

    def __init__(self, adjacency: Any) -> None:
        edges = _as_edges(adjacency, "adjacency")
        if edges.shape[0] != edges.shape[1]:
            raise ValueError(
                "`adjacency` must have one row and one column per label, but has the shape "
                f"{edges.shape}. Use AnchorGraph for edges from labels to other nodes."
            )
        _fill(self, edges)

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return int(self._value[0].shape[0])

    @property
    def n_edges(self) -> int:
        """Number of stored edges; an undirected edge counts twice."""
        return int(self._value[0].nnz)

    def to_csr(self) -> sp.csr_array:
        """Return the edge weights, float32 of shape (n_labels, n_labels), with read-only arrays."""
        return self._value[0]

    def __repr__(self) -> str:
        return f"LabelGraph(n_labels={self.n_labels}, n_edges={self.n_edges})"


class AnchorGraph(_Holder):
    """Edges from labels to anchors: metadata nodes such as categories, links or people.

    Samples have their own edges to the same anchors; those travel as the fit argument
    ``sample_graph``, one sparse matrix of shape (n_samples, n_anchors) that cross-validation does
    cut.

    Parameters
    ----------
    labels : sparse matrix or array-like of shape (n_labels, n_anchors), or None
        Non-negative edge weights. None: only samples have edges.
    texts : sequence of n_anchors str, or matrix of shape (n_anchors, n_features), default=None
        Texts or features of the anchors. None: the anchors are the labels themselves.
    groups : mapping of str to (start, stop), default=None
        Column ranges, one per kind of metadata, in order, without gaps or overlaps. None: one group
        called ``"anchors"``.

    Raises
    ------
    ValueError
        Shapes or groups do not fit together, or a weight is negative, infinite or NaN.

    References
    ----------
    RAMEN (regularised training with metadata graphs), where groups are the metadata graphs t =
    1..T.

    Examples
    --------
    >>> import numpy as np
    >>> from skxc import AnchorGraph
    >>> groups = {"tag": (0, 2), "link": (2, 3)}
    >>> AnchorGraph(np.eye(2, 3), texts=["art", "law", "war"], groups=groups)
    AnchorGraph(n_labels=2, n_anchors=3, groups=['tag', 'link'])
    """

    __slots__ = ()

    def __init__(
        self, labels: Any, texts: Any = None, groups: Mapping[str, tuple[int, int]] | None = None
    ) -> None:
        edges = None if labels is None else _as_edges(labels, "labels")
        anchors = None if texts is None else _as_texts_or_features(texts, "texts")
        n_anchors = _count_anchors(edges, anchors)
        _fill(self, edges, anchors, n_anchors, _check_groups(groups, n_anchors))

    @property
    def n_labels(self) -> int | None:
        """Number of labels, None where only samples have edges."""
        return None if self._value[0] is None else int(self._value[0].shape[0])

    @property
    def n_anchors(self) -> int:
        """Number of anchors."""
        return self._value[2]

    @property
    def n_edges(self) -> int:
        """Number of stored edges from labels."""
        return 0 if self._value[0] is None else int(self._value[0].nnz)

    @property
    def groups(self) -> dict[str, tuple[int, int]]:
        """Column range (start, stop) of every group, in order."""
        return dict(self._value[3])

    @property
    def texts(self) -> TextsOrFeatures | None:
        """Texts (object array) or features (CSR) of the anchors, None where they are the labels."""
        return self._value[1]

    def to_csr(self) -> sp.csr_array | None:
        """Return the edge weights, read-only float32 of shape (n_labels, n_anchors)."""
        return self._value[0]

    def __repr__(self) -> str:
        names = list(self._value[3])
        return f"AnchorGraph(n_labels={self.n_labels}, n_anchors={self.n_anchors}, groups={names})"


def _count_anchors(edges: sp.csr_array | None, anchors: TextsOrFeatures | None) -> int:
    """Return the number of anchors, after a check that edges and texts agree on it."""
    if anchors is None:
        if edges is None:
            raise ValueError("`texts` must be given when `labels` is None: anchors need a text.")
        if edges.shape[0] != edges.shape[1]:
            raise ValueError(
                "`labels` must be square when `texts` is None, because the anchors are the labels "
                f"then, but has the shape {edges.shape}. Pass the texts of the anchors."
            )
        return int(edges.shape[1])
    n_anchors = int(anchors.shape[0])
    if edges is not None and edges.shape[1] != n_anchors:
        raise ValueError(
            f"`labels` has {edges.shape[1]} columns but `texts` has {n_anchors} rows. "
            "Pass one text per anchor."
        )
    return n_anchors


def _check_groups(
    groups: Mapping[str, tuple[int, int]] | None, n_anchors: int
) -> dict[str, tuple[int, int]]:
    """Return the column ranges, after a check that they cover all anchors in order."""
    if groups is None:
        return {"anchors": (0, n_anchors)}
    try:
        ranges = {str(name): (int(start), int(stop)) for name, (start, stop) in groups.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"`groups` must be a dict of names and column ranges (start, stop), but is {groups!r}."
        ) from error
    expected = 0
    for name, (start, stop) in ranges.items():
        if start != expected or stop < start:
            raise ValueError(
                "`groups` must be column ranges in order without gaps or overlaps, but "
                f"{name!r} is ({start}, {stop}) where ({expected}, ...) was expected."
            )
        expected = stop
    if expected != n_anchors:
        raise ValueError(
            f"`groups` must cover all {n_anchors} anchors, but they end at {expected}."
        )
    return ranges


class LabelTexts(_Holder):
    """Texts of the labels that cross-validation never cuts.

    Iteration gives the texts, so that a vectoriser can consume the holder.

    Parameters
    ----------
    texts : mapping of str to str, sequence of n_labels str, or matrix (n_labels, n_features)
        Texts by the names of their labels; or one text, or row of features, per label.
    names : sequence of n_labels str, default=None
        Names of the labels: ``label_names_`` of the fitted estimator, answers of
        ``predict_labels``. Not with a mapping, which has them.

    Raises
    ------
    ValueError
        An element is not a string, the lengths differ, or a name is no name: one that is empty,
        repeated, or has a tab, a line break, or blanks around it.

    Examples
    --------
    >>> from skxc import LabelTexts
    >>> texts = LabelTexts(["deep learning", "wine"], names=["dl", "wine"])
    >>> texts
    LabelTexts(n_labels=2)
    >>> list(texts)
    ['deep learning', 'wine']
    """

    __slots__ = ()

    def __init__(self, texts: Any, names: Any = None) -> None:
        if isinstance(texts, Mapping):
            texts, names = list(texts.values()), list(texts) if names is None else names
        content = _as_texts_or_features(texts, "texts")
        labels = None if names is None else np.array(as_names(names, "names"), dtype=object)
        if labels is not None and len(labels) != content.shape[0]:
            raise ValueError(
                f"`names` has {len(labels)} elements but `texts` has {content.shape[0]}. "
                "Pass one name per label."
            )
        _fill(self, content, labels)

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return int(self._value[0].shape[0])

    @property
    def texts(self) -> TextsOrFeatures:
        """Texts (object array) or features (CSR) of the labels, read-only."""
        return self._value[0]

    @property
    def names(self) -> list[str] | None:
        """Names of the labels, None where none were given."""
        return None if self._value[1] is None else self._value[1].tolist()

    def to_csr(self) -> sp.csr_array:
        """Return the features, float32 of shape (n_labels, n_features), with read-only arrays.

        Raises
        ------
        ValueError
            The holder has texts.
        """
        if not isinstance(self._value[0], sp.csr_array):
            raise ValueError(
                "`to_csr` needs features, but the holder has texts. Vectorise them first."
            )
        return self._value[0]

    def __iter__(self) -> Iterator[str]:
        if sp.issparse(self._value[0]):
            raise TypeError(
                "LabelTexts is iterable over texts only, but holds features. Use to_csr()."
            )
        return iter(self._value[0])

    def __repr__(self) -> str:
        return f"LabelTexts(n_labels={self.n_labels})"


# What a cross-validation tool does to an array with as many rows as there are samples.
_SLICED = (
    " It has as many rows as `X`: a cross-validation tool sliced it because n_labels == n_samples; "
    "wrap it in {holder} or pass it to the constructor."
)


def check_graph(graph: Any, n_labels: int, n_samples: int) -> LabelGraph | AnchorGraph | None:
    """Return a graph argument as a holder of the right size.

    Parameters
    ----------
    graph : matrix, LabelGraph, AnchorGraph or None
    n_labels, n_samples : int
        Size of the target.

    Returns
    -------
    LabelGraph, AnchorGraph or None
        An AnchorGraph without texts becomes a LabelGraph.

    Raises
    ------
    ValueError
        The shape is wrong (SlicedLabelSideError where cross-validation cut it), or a weight is.
    """
    if graph is None:
        return None
    if isinstance(graph, AnchorGraph) and graph.texts is not None:
        if graph.n_labels not in (None, n_labels):
            raise ValueError(
                f"`graph` has {graph.n_labels} labels but `y` has {n_labels}. "
                "Build the AnchorGraph with one row per label column."
            )
        return graph
    is_holder = isinstance(graph, _Holder)
    matrix = graph.to_csr() if is_holder else graph
    shape = matrix.shape if hasattr(matrix, "shape") else np.shape(matrix)
    if shape != (n_labels, n_labels):
        message = (
            f"`graph` must have the shape ({n_labels}, {n_labels}), one row and one column per "
            f"label of `y`, but has {shape}."
        )
        if shape == (n_samples, n_labels) and not is_holder:
            raise SlicedLabelSideError(message + _SLICED.format(holder="LabelGraph"))
        raise ValueError(message)
    return graph if isinstance(graph, LabelGraph) else LabelGraph(matrix)


def check_label_features(
    label_features: Any, n_labels: int | None, n_samples: int | None
) -> tuple[TextsOrFeatures | None, list[str] | None]:
    """Return label features as texts (object array) or CSR, and the label names if there are any.

    Parameters
    ----------
    label_features : matrix, sequence of str, mapping, LabelTexts or None
    n_labels : int or None
        Expected number of rows; None: any.
    n_samples : int or None
        Number of samples, to recognise an argument that cross-validation cut.

    Raises
    ------
    ValueError
        The number of rows is wrong (SlicedLabelSideError where cross-validation cut it), or the
        content is neither texts nor numbers.
    """
    if label_features is None:
        return None, None
    is_holder = isinstance(label_features, LabelTexts)
    holder = label_features if is_holder else LabelTexts(label_features)
    content = holder.texts
    if isinstance(content, sp.csr_array) and not np.all(np.isfinite(content.data)):
        raise ValueError("`label_features` must be finite, but holds NaN or infinite values.")
    if n_labels is not None and holder.n_labels != n_labels:
        message = (
            f"`label_features` must have one row per label of `y`, {n_labels}, but has "
            f"{holder.n_labels} rows."
        )
        if holder.n_labels == n_samples and not is_holder:
            raise SlicedLabelSideError(message + _SLICED.format(holder="LabelTexts"))
        raise ValueError(message)
    return content, holder.names
