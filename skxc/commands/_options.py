"""Options that several subcommands have."""

from __future__ import annotations

import argparse
from typing import Any

from skxc.benchmark import GraphChoice


def new_parser(subparsers: Any, name: str, summary: str, **texts: str) -> argparse.ArgumentParser:
    """Return the parser of a subcommand whose texts keep their line breaks."""
    formatter = argparse.RawDescriptionHelpFormatter
    return subparsers.add_parser(name, help=summary, formatter_class=formatter, **texts)


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
