"""The container that every reader of this room returns: one extreme multi-label data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from skxc.labels import AnchorGraph, LabelGraph
from skxc.utils._validation import checked_sparse


class Anchors(NamedTuple):
    """Metadata nodes that training samples and labels are linked to, with their texts.

    Attributes
    ----------
    sample_anchors : csr_array of shape (n_train, M)
        Links of the training samples. Test samples have none on purpose.
    label_anchors : csr_array of shape (L, M), or None
        Links of the labels; None where the source has none.
    texts : list of str of length M, or None
        The text of every node.
    """

    sample_anchors: sp.csr_array
    label_anchors: sp.csr_array | None = None
    texts: list[str] | None = None


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class XCDataset:
    """Texts, features, labels and graphs of one data set, with their shapes checked.

    A frozen dataclass rather than scikit-learn's ``Bunch``: a misspelt field is an error, every
    field has a type, and a field that a data set lacks is None instead of missing. Use
    ``dataclasses.replace`` to change one.

    Attributes
    ----------
    train_labels : csr_array of float32 ones, shape (n_train, L)
        Labels of the training samples: `y` of ``fit``.
    test_labels : csr_array of float32 ones, shape (n_test, L), or None
        Labels of the test samples.
    train_texts, test_texts, label_texts : list of str, or None
        One text per sample or label.
    train_features, test_features, label_features : csr_array of float32, or None
        One row of V features per sample or label.
    train_ids, test_ids, label_names, feature_names : list of str, or None
        Names of rows and columns in the source.
    train_filter, test_filter : csr_array, or None
        Stored (sample, label) pairs that are no labels, yet must not count as mistakes: drop them
        from predictions before ranking, and do not draw them as negatives.
    graphs : dict of str to csr_array of shape (L, L)
        Label graphs by name.
    anchors : dict of str to Anchors
        Metadata by name.

    Raises
    ------
    ValueError
        If the number of rows or columns of any field contradicts the labels.
    """

    train_labels: sp.csr_array
    test_labels: sp.csr_array | None = None
    train_texts: list[str] | None = None
    test_texts: list[str] | None = None
    label_texts: list[str] | None = None
    train_features: sp.csr_array | None = None
    test_features: sp.csr_array | None = None
    label_features: sp.csr_array | None = None
    train_ids: list[str] | None = None
    test_ids: list[str] | None = None
    label_names: list[str] | None = None
    feature_names: list[str] | None = None
    train_filter: sp.csr_array | None = None
    test_filter: sp.csr_array | None = None
    graphs: Mapping[str, sp.csr_array] = field(default_factory=dict)
    anchors: Mapping[str, Anchors] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, expected in self._expected_sizes():
            _check_size(name, getattr(self, name), expected)
        for name, graph in self.graphs.items():
            _check_size(f"graphs[{name!r}]", graph, (self.n_labels, self.n_labels))
        for name, nodes in self.anchors.items():
            width = nodes.sample_anchors.shape[1]
            where = f"anchors[{name!r}]"
            _check_size(f"{where}.sample_anchors", nodes.sample_anchors, (self.n_train, width))
            _check_size(f"{where}.label_anchors", nodes.label_anchors, (self.n_labels, width))
            _check_size(f"{where}.texts", nodes.texts, (width,))

    def _expected_sizes(self) -> Iterator[tuple[str, tuple[int | None, ...]]]:
        """Yield every field with its number of rows (and columns; None where they are free)."""
        n_features = None if self.train_features is None else self.train_features.shape[1]
        rows = {"train": self.n_train, "test": self.n_test, "label": self.n_labels}
        for side, n_rows in rows.items():
            yield f"{side}_texts", (n_rows,)
            yield f"{side}_features", (n_rows, n_features)
            yield f"{side}_names" if side == "label" else f"{side}_ids", (n_rows,)
        yield "train_labels", (None, None)
        yield "test_labels", (None, self.n_labels)
        yield "train_filter", (self.n_train, self.n_labels)
        yield "test_filter", (self.n_test, self.n_labels)
        yield "feature_names", (n_features,)

    @property
    def n_train(self) -> int:
        """Number of training samples."""
        return int(self.train_labels.shape[0])

    @property
    def n_test(self) -> int:
        """Number of test samples."""
        return 0 if self.test_labels is None else int(self.test_labels.shape[0])

    @property
    def n_labels(self) -> int:
        """Number of labels, L."""
        return int(self.train_labels.shape[1])

    def __repr__(self) -> str:
        sizes = f"n_train={self.n_train}, n_test={self.n_test}, n_labels={self.n_labels}"
        sides = f"graphs={list(self.graphs)}, anchors={list(self.anchors)}"
        return f"{type(self).__name__}({sizes}, {sides})"

    def label_graph(self, name: str) -> LabelGraph:
        """Return one label graph in the holder that ``fit(graph=...)`` takes.

        Parameters
        ----------
        name : str
            A key of `graphs`.

        Returns
        -------
        LabelGraph

        Raises
        ------
        ValueError
            If there is no such graph.
        """
        _check_known("graphs", name, self.graphs)
        return LabelGraph(self.graphs[name])

    def anchor_graph(
        self, names: str | Sequence[str] | None = None
    ) -> tuple[AnchorGraph, sp.csr_array]:
        """Return metadata sets stacked side by side: the label side and the sample side.

        Where the source links no labels, neither does the graph: estimators derive the links of a
        label from its training samples, if they want any, and so from those of each fold.

        Parameters
        ----------
        names : str, sequence of str, or None, default=None
            Keys of `anchors`, in the order of the columns; None takes all of them.

        Returns
        -------
        graph : AnchorGraph
            Label links, node texts and one group of columns per name: ``fit(graph=...)``.
        sample_graph : csr_array of shape (n_train, M)
            Links of the training samples, same columns: ``fit(sample_graph=...)``.

        Raises
        ------
        ValueError
            If `names` is empty, or one of them is unknown or has no texts.
        """
        names = list(self.anchors) if names is None else names
        names = [names] if isinstance(names, str) else names
        if not names:
            raise ValueError(
                "`names` is empty, but an anchor graph needs at least one set of anchors."
            )
        for name in names:
            _check_known("anchors", name, self.anchors)
            if self.anchors[name].texts is None:
                raise ValueError(
                    f"anchors[{name!r}] has no texts, but an anchor graph needs one text per node. "
                    "Add them, or use the links as features."
                )
        sets = [self.anchors[name] for name in names]
        widths = [nodes.sample_anchors.shape[1] for nodes in sets]
        groups = dict(zip(names, pairwise(np.cumsum([0, *widths]).tolist()), strict=True))
        sides = [nodes.label_anchors for nodes in sets]
        labels = None
        if any(side is not None for side in sides):
            none = [sp.csr_array((self.n_labels, width), dtype=np.float32) for width in widths]
            given = [none[i] if side is None else side for i, side in enumerate(sides)]
            labels = sp.csr_array(sp.hstack(given, format="csr"))
        samples = sp.csr_array(sp.hstack([nodes.sample_anchors for nodes in sets], format="csr"))
        texts = [text for nodes in sets for text in nodes.texts or ()]
        return AnchorGraph(labels, texts=texts, groups=groups), samples


def _check_known(kind: str, name: str, known: Mapping[str, object]) -> None:
    if name not in known:
        raise ValueError(f"{kind} has no {name!r}. Use one of {list(known)}.")


def _check_size(
    name: str, value: sp.csr_array | list[str] | None, expected: tuple[int | None, ...]
) -> None:
    if value is None:
        return
    if sp.issparse(value):
        checked_sparse(value, name)
    size = getattr(value, "shape", None) or (len(value),)
    for axis, got, want in zip(("rows", "columns"), size, expected, strict=False):
        if want is not None and got != want:
            raise ValueError(
                f"`{name}` must have {want} {axis} to fit the other fields, but has {got}. "
                "Check that all of them describe the same samples and labels."
            )
