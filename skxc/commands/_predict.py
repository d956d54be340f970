"""``python -m skxc predict``: label names and scores for texts from a file or standard input."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from skxc.commands._options import add_encoding, load_model, new_parser
from skxc.datasets._lines import check_encoding, lines_of, open_binary, unpacked

DESCRIPTION = """\
Print the best labels of every text, one output line per input line, best label first:
name TAB score TAB name TAB score ... The output is UTF-8. Names that are class values of any kind
may hold tabs, line breaks and backslashes, which are written as in Python: \\t, \\n, \\\\.
"""
BLOCK_TEXTS = 1_024
# What some reader takes for the end of a field or line, and what the escapes are made of.
ESCAPES = {
    ord(mark): mark.encode("unicode_escape").decode()
    for mark in "\\\t\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
}


def add_parser(subparsers: Any) -> None:
    """Add the subcommand with its options."""
    summary = "label names and scores for texts"
    parser = new_parser(subparsers, "predict", summary, description=DESCRIPTION)
    parser.add_argument("model", type=Path, help="a folder that `fit` or `estimator.save` wrote")
    parser.add_argument(
        "texts",
        nargs="?",
        type=Path,
        help="file of one text a line (may be .gz; default: standard input)",
    )
    add_encoding(parser)
    parser.add_argument("-k", type=int, default=5, help="labels per text (default: 5)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the subcommand."""
    if options.k < 1:
        raise ValueError(f"-k must be at least 1, but is {options.k}.")
    check_encoding(options.encoding)
    estimator = load_model(options.model)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    path = options.texts or Path("standard input")
    source = open_binary(path) if options.texts else unpacked(sys.stdin.buffer, path)
    with source as file:
        lines = lines_of(file, path, options.encoding)
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
