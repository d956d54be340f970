"""``python -m skxc predict``: label names and scores for texts from a file or standard input."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from skxc.commands._options import new_parser
from skxc.datasets._lines import lines_of, open_binary
from skxc.persistence import load

DESCRIPTION = """\
Print the best labels of every text, one output line per input line, best label first:
name TAB score TAB name TAB score ...
"""
BLOCK_TEXTS = 1_024
ESCAPES = str.maketrans({"\t": r"\t", "\n": r"\n", "\r": r"\r"})


def add_parser(subparsers: Any) -> None:
    """Add the subcommand with its options."""
    summary = "label names and scores for texts"
    parser = new_parser(subparsers, "predict", summary, description=DESCRIPTION)
    parser.add_argument("model", type=Path, help="a folder that `fit` or `estimator.save` wrote")
    parser.add_argument(
        "texts",
        nargs="?",
        type=Path,
        help="file in UTF-8, one text a line (may be .gz; default: standard input)",
    )
    parser.add_argument("-k", type=int, default=5, help="labels per text (default: 5)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the subcommand."""
    if options.k < 1:
        raise ValueError(f"-k must be at least 1, but is {options.k}.")
    estimator = load(options.model)
    path = options.texts or Path("standard input")
    with open_binary(path) if options.texts else nullcontext(sys.stdin.buffer) as file:
        lines = lines_of(file, path)
        texts = iter(tqdm(lines, desc="predict", unit="text", disable=None))
        while block := list(islice(texts, BLOCK_TEXTS)):
            for line in label_lines(estimator, block, options.k):
                sys.stdout.write(line + "\n")
            sys.stdout.flush()
    return 0


def label_lines(estimator: Any, texts: list[str], k: int) -> Iterator[str]:
    """Yield the k best names and scores of every text, separated by tabs."""
    names = estimator.label_names_
    if names is None:
        # Class values, unlike names, may be any text.
        names = [str(value).translate(ESCAPES) for value in estimator.classes_]
    for labels, scores in zip(*estimator.predict_topk(texts, k=k), strict=True):
        found = zip(labels, scores, strict=True)
        yield "\t".join(f"{names[label]}\t{score:.4g}" for label, score in found if label >= 0)
