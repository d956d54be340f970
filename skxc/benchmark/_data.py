"""From a data folder to what `fit` and `predict_topk` of an estimator take."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer

from skxc import datasets
from skxc.datasets import Anchors, XCDataset
from skxc.labels import LabelTexts
from skxc.utils._sparse import normalize_rows

Rows: TypeAlias = list[str] | sp.csr_array


@dataclass(frozen=True)
class GraphChoice:
    """The side information of a run: sets of anchors, or one label graph, or nothing.

    Attributes
    ----------
    anchors : sequence of str
        Sets of anchors, stacked side by side for ``fit(graph=..., sample_graph=...)``.
    label_graph : str or None
        A label graph for ``fit(graph=...)``.
    shuffled : bool
        Whether every edge gets a random right end, which leaves no information in the graph but
        the degrees: the control of an experiment.
    """

    anchors: Sequence[str] = ()
    label_graph: str | None = None
    shuffled: bool = False

    @property
    def name(self) -> str | None:
        """The graph's name in a benchmark record."""
        name = ",".join(self.anchors) or self.label_graph
        return f"{name} (shuffled)" if name and self.shuffled else name


NO_GRAPH = GraphChoice()


def load_folder(
    folder: str | Path,
    *,
    hold_out: int | None = None,
    texts: bool = False,
    encoding: str = "utf-8",
) -> XCDataset:
    """Load a data folder as benchmarks use it.

    Parameters
    ----------
    folder : str or Path
        One of the formats of :func:`skxc.datasets.load_xc_repository`.
    hold_out : int, default=None
        Number of training rows to keep out of `fit` and to score instead of the test rows, chosen
        by :func:`skxc.datasets.hold_out`.
    texts : bool, default=False
        Leave features out, so that the texts are used.
    encoding : str, default="utf-8"
        Encoding of the texts.

    Returns
    -------
    XCDataset
        Given features of samples are L2-normalised.

    Raises
    ------
    ValueError
        If the folder is malformed, or `hold_out` is out of range.
    """
    data = datasets.load_xc_repository(folder, encoding=encoding)
    data = data if hold_out is None else datasets.hold_out(data, hold_out)
    names = ("train_features", "test_features", "label_features", "feature_names")
    if texts:
        none: dict[str, Any] = dict.fromkeys(names)
        return replace(data, **none)
    given = {name: getattr(data, name) for name in names[:2] if getattr(data, name) is not None}
    return replace(data, **{name: normalize_rows(rows) for name, rows in given.items()})


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run: the data folder, ``--seed``, ``--texts`` and ``--hold-out``."""
    parser.add_argument("folder", type=Path, help="a data folder; see the user guide for the files")
    parser.add_argument(
        "--seed", type=int, nargs="+", default=[0], help="values of random_state (default: 0)"
    )
    parser.add_argument(
        "--texts", action="store_true", help="use texts even where features are given"
    )
    parser.add_argument(
        "--hold-out",
        type=int,
        metavar="N",
        help="score N training rows that are kept out of fit instead of the test rows",
    )


def sample_rows(data: XCDataset, side: Literal["train", "test"] = "train") -> Rows:
    """Return the training or the test rows, features or else texts; ValueError if none."""
    rows = getattr(data, f"{side}_texts" if data.train_features is None else f"{side}_features")
    if rows is None and side == "train":
        raise ValueError("The data set has no training texts. Add train_texts.txt.gz.")
    if rows is None or (data.test_labels is None and side == "test"):
        raise ValueError("The data set has no test rows. Add test_labels.npz and the test texts.")
    return rows


def prepare(estimator: Any, data: XCDataset, seed: int) -> Any:
    """Set every `random_state` of an estimator, and a vectorizer where it cannot read the texts."""
    names = estimator.get_params(deep=True)
    seeds = [name for name in names if name.split("__")[-1] == "random_state"]
    estimator.set_params(**dict.fromkeys(seeds, seed))
    if data.train_features is None:
        _give_vectorizer(estimator)
    return estimator


def _give_vectorizer(estimator: Any) -> None:
    parameters = estimator.get_params(deep=False)
    if parameters.get("vectorizer") is not None:
        return
    if "vectorizer" in parameters and not getattr(estimator, "_accepts_texts", False):
        estimator.set_params(vectorizer=TfidfVectorizer(sublinear_tf=True, dtype=np.float32))
        return
    for part in estimator.get_params(deep=True).values():
        if hasattr(part, "predict_topk"):
            _give_vectorizer(part)


def fit_arguments(
    estimator: Any, data: XCDataset, graph: GraphChoice = NO_GRAPH, seed: int = 0
) -> dict[str, Any]:
    """Return the keyword arguments of `fit`: label texts or features, graph, sample graph.

    Label texts go with texts and label features with features, where `fit` knows them. A graph
    that it does not know is a ValueError.
    """
    known = inspect.signature(estimator.fit).parameters
    arguments: dict[str, Any] = {}
    label_side: Any = data.label_features
    if data.train_features is None:
        texts, names = data.label_texts, data.label_names
        label_side = None if texts is None else LabelTexts(texts, names=names)
    if label_side is not None and "label_features" in known:
        arguments["label_features"] = label_side
    if graph.shuffled:
        data = shuffle_edges(data, np.random.default_rng(seed))
    if graph.anchors:
        arguments["graph"], arguments["sample_graph"] = data.anchor_graph(graph.anchors)
    elif graph.label_graph:
        arguments["graph"] = data.label_graph(graph.label_graph)
    if unknown := set(arguments) - set(known):
        raise ValueError(
            f"{type(estimator).__name__}.fit takes no {' and no '.join(sorted(unknown))}. "
            "Choose an estimator that uses a graph, or leave the graph out."
        )
    return arguments


def shuffle_edges(data: XCDataset, rng: np.random.Generator) -> XCDataset:
    """Return the data set with the right end of every edge of every graph drawn anew.

    The right ends (anchors, or labels of a label graph) are permuted among the edges of each
    matrix, so samples and labels keep their number of edges and anchors keep theirs, up to edges
    that meet. Label anchors that the data set derives from its samples are derived from the
    shuffled ones.
    """
    anchors = {
        name: Anchors(
            _shuffle_columns(nodes.sample_anchors, rng),
            None if nodes.label_anchors is None else _shuffle_columns(nodes.label_anchors, rng),
            nodes.texts,
        )
        for name, nodes in data.anchors.items()
    }
    graphs = {name: _shuffle_columns(graph, rng) for name, graph in data.graphs.items()}
    return replace(data, anchors=anchors, graphs=graphs)


def _shuffle_columns(matrix: sp.csr_array, rng: np.random.Generator) -> sp.csr_array:
    columns = rng.permutation(matrix.indices)
    shuffled = sp.csr_array((matrix.data.copy(), columns, matrix.indptr.copy()), shape=matrix.shape)
    shuffled.sum_duplicates()
    return shuffled
