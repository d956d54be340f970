"""Options that several subcommands have."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from skxc.benchmark import GraphChoice
from skxc.persistence import load

USAGE_ERROR = 2


class Parser(argparse.ArgumentParser):
    """A parser that explains a mistake in one sentence."""

    def error(self, message: str) -> NoReturn:
        """End the program with status 2."""
        self.exit(USAGE_ERROR, f"{self.prog}: {message}. `{self.prog} --help` explains more.\n")


def new_parser(subparsers: Any, name: str, summary: str, **texts: str) -> argparse.ArgumentParser:
    """Return the parser of a subcommand whose texts keep their line breaks."""
    formatter = argparse.RawDescriptionHelpFormatter
    return subparsers.add_parser(name, help=summary, formatter_class=formatter, **texts)


def add_encoding(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the encoding of files of texts."""
    parser.add_argument(
        "--encoding", default="utf-8", help="encoding of the texts (default: utf-8)"
    )


def load_model(folder: Path) -> Any:
    """Load a classifier; ValueError where the folder holds another estimator."""
    estimator = load(folder)
    if not hasattr(estimator, "predict_topk"):
        raise ValueError(
            f"{folder} must hold a classifier of skxc, but holds a {type(estimator).__name__}. "
            "Name a folder that `fit` wrote."
        )
    return estimator


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
    """Return the graph that the options name; ValueError to shuffle none."""
    names = tuple(options.graph.split(",")) if options.graph else ()
    if options.shuffle_graph and not (names or options.label_graph):
        raise ValueError("--shuffle-graph needs a graph. Add --graph NAME or --label-graph NAME.")
    return GraphChoice(names, options.label_graph, options.shuffle_graph)
