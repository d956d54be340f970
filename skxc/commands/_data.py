"""From a data folder to what `fit` and `predict_topk` of an estimator take."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer

from skxc.commands._errors import UsageError
from skxc.datasets import Anchors, XCDataset, hold_out, load_xc_repository
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


def add_graph_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a graph of the data folder."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--graph",
        metavar="NAME[,NAME]",
        help="anchors of samples and labels: graphs/sample_anchors_NAME.npz and its companions",
    )
    choice.add_argument("--label-graph", metavar="NAME", help="graphs/label_graph_NAME.npz")
    parser.add_argument(
        "--shuffle-graph",
        action="store_true",
        help="control: give every edge a random right end (seeded)",
    )


def graph_choice(options: argparse.Namespace) -> GraphChoice:
    """Return the graph that the options name.

    Raises
    ------
    UsageError
        If a graph shall be shuffled but none is named.
    """
    names = tuple(options.graph.split(",")) if options.graph else ()
    if options.shuffle_graph and not (names or options.label_graph):
        raise UsageError("--shuffle-graph needs a graph. Add --graph NAME or --label-graph NAME.")
    return GraphChoice(names, options.label_graph, options.shuffle_graph)


def load_rows(folder: Path, n_held_out: int | None) -> XCDataset:
    """Return a data set, with held-out training rows as its test rows if a number is given."""
    data = load_xc_repository(folder)
    return data if n_held_out is None else hold_out(data, n_held_out)


def sample_rows(data: XCDataset, prefer_texts: bool = False) -> tuple[Rows, Rows | None]:
    """Return the training and the test rows: given features, L2-normalised, or else texts.

    Parameters
    ----------
    data : XCDataset
    prefer_texts : bool, default=False
        Take the texts even where features are given.

    Returns
    -------
    train : list of str or csr_array
    test : list of str or csr_array, or None
        None where the data set has no test rows.

    Raises
    ------
    UsageError
        If the data set has neither, or no texts where they are preferred.
    """
    if data.train_features is not None and not prefer_texts:
        test = data.test_features
        return normalize_rows(data.train_features), None if test is None else normalize_rows(test)
    if data.train_texts is None:
        raise UsageError("The data set has no training texts. Add train_texts.txt.gz.")
    return data.train_texts, data.test_texts


def rows_to_predict(data: XCDataset, prefer_texts: bool = False) -> Rows:
    """Return the test rows.

    Raises
    ------
    UsageError
        If the data set has none.
    """
    _, rows = sample_rows(data, prefer_texts)
    if rows is None or data.test_labels is None:
        raise UsageError("The data set has no test rows. Add test_labels.npz and the test texts.")
    return rows


def label_texts(data: XCDataset) -> LabelTexts | None:
    """Return the label texts with their names, or None where the data set has none."""
    if data.label_texts is None:
        return None
    return LabelTexts(data.label_texts, names=data.label_names)


def give_vectorizer(estimator: Any, X: Rows) -> None:
    """Set a TF-IDF vectorizer where the estimator, or one inside it, cannot read its texts."""
    parameters = estimator.get_params(deep=False)
    if sp.issparse(X) or parameters.get("vectorizer") is not None:
        return
    if "vectorizer" in parameters and not getattr(estimator, "_accepts_texts", False):
        estimator.set_params(vectorizer=TfidfVectorizer(sublinear_tf=True, dtype=np.float32))
        return
    for part in estimator.get_params(deep=True).values():
        if hasattr(part, "predict_topk"):
            give_vectorizer(part, X)


def set_seed(estimator: Any, seed: int) -> None:
    """Set every `random_state` of an estimator and of the estimators inside it."""
    names = [
        name
        for name in estimator.get_params(deep=True)
        if name == "random_state" or name.endswith("__random_state")
    ]
    estimator.set_params(**dict.fromkeys(names, seed))


def fit_arguments(
    estimator: Any, data: XCDataset, X: Rows, choice: GraphChoice, seed: int = 0
) -> dict[str, Any]:
    """Return the keyword arguments of `fit`: label texts, graph and sample graph.

    Parameters
    ----------
    estimator : object
        Label texts are given only where its `fit` knows them.
    data : XCDataset
    X : list of str or csr_array
        The training rows; label texts go with texts, label features with features.
    choice : GraphChoice
    seed : int, default=0
        Seed of the shuffling.

    Raises
    ------
    UsageError
        If the estimator's `fit` has no parameter for the graph.
    """
    known = inspect.signature(estimator.fit).parameters
    arguments: dict[str, Any] = {}
    label_features = data.label_features if sp.issparse(X) else label_texts(data)
    if label_features is not None and "label_features" in known:
        arguments["label_features"] = label_features
    if choice.shuffled:
        data = shuffle_edges(data, np.random.default_rng(seed))
    if choice.anchors:
        arguments["graph"], arguments["sample_graph"] = data.anchor_graph(choice.anchors)
    elif choice.label_graph:
        arguments["graph"] = data.label_graph(choice.label_graph)
    if unknown := set(arguments) - set(known):
        raise UsageError(
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
