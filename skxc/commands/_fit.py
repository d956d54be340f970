"""``python -m skxc fit``: from a data folder, or from text files, to a saved model."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import Any

from skxc.benchmark import build_estimator, fit, load_folder, prepare
from skxc.commands._options import add_encoding, add_graph_arguments, graph_choice, new_parser
from skxc.datasets import XCDataset, labels_from_names
from skxc.datasets._lines import malformed, read_lines
from skxc.utils._validation import wrong_name

logger = logging.getLogger("skxc")

DESCRIPTION = """\
Fit an estimator and save it as a folder.

The training data are a data folder, or two files of lines: --texts with one text a line, and
--labels with the label names of the same text, separated by tabs. --label-texts names a third file
of lines, name TAB text, that describes every label; without it the names are the texts. All files
may be packed (.gz).
"""
EPILOG = """\
examples:
  python -m skxc fit FOLDER --estimator "DualEncoderXC(n_epochs=10)" --output model
  python -m skxc fit --texts titles.txt --labels tags.txt --output model
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand with its options."""
    summary = "fit an estimator on a data folder or on text files, and save it"
    parser = new_parser(subparsers, "fit", summary, description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("folder", nargs="?", type=Path, help="a data folder")
    parser.add_argument("--texts", type=Path, metavar="FILE", help="one text a line")
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="label names, tabs between them"
    )
    parser.add_argument("--label-texts", type=Path, metavar="FILE", help="lines of name TAB text")
    parser.add_argument(
        "--estimator",
        default="DualEncoderXC()",
        metavar="EXPRESSION",
        help='such as "KNeighborsXC(n_neighbors=10)" (default: DualEncoderXC())',
    )
    parser.add_argument("--output", "-o", type=Path, required=True, help="folder of the model")
    parser.add_argument("--seed", type=int, default=0, help="random_state (default: 0)")
    add_encoding(parser)
    add_graph_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the subcommand."""
    if options.output.exists():
        raise ValueError(
            f"{str(options.output)!r} exists already. Name a new folder for the model."
        )
    estimator = build_estimator(options.estimator)
    data = _read(options)
    begun = time.perf_counter()
    fit(prepare(estimator, data, options.seed), data, graph_choice(options), seed=options.seed)
    if estimator.label_names_ is None:  # an estimator without a label side learns no names
        estimator.label_names_ = data.label_names
    estimator.save(options.output)
    seconds = time.perf_counter() - begun
    sys.stderr.write(
        f"{type(estimator).__name__} on {data.n_train} samples and {data.n_labels} labels: "
        f"{seconds:.1f} s, saved to {options.output}\n"
    )
    return 0


def _read(options: argparse.Namespace) -> XCDataset:
    files = (options.texts, options.labels)
    if (options.folder is None) == (files == (None, None)) or files.count(None) == 1:
        raise ValueError("fit needs either a data folder, or --texts with --labels.")
    if options.folder is not None:
        return load_folder(options.folder, encoding=options.encoding)
    return read_text_files(
        options.texts, options.labels, options.label_texts, encoding=options.encoding
    )


def read_text_files(
    texts: Path, labels: Path, label_texts: Path | None, *, encoding: str = "utf-8"
) -> XCDataset:
    """Read training data from files of lines.

    Raises
    ------
    ValueError
        If the numbers of lines differ, a name is no name, or a line of `label_texts` has no tab or
        repeats a name.
    """
    rows, name_lines = read_lines(texts, encoding), read_lines(labels, encoding)
    if len(rows) != len(name_lines):
        raise ValueError(
            f"{texts} has {len(rows)} lines but {labels} has {len(name_lines)}. "
            "Write the labels of every text on the line of the same number, or leave it empty."
        )
    lists = [[name for name in line.split("\t") if name] for line in name_lines]
    for number, names in enumerate(lists, start=1):
        for name in names:
            if problem := wrong_name(name):
                raise malformed(labels, number, f"the label {name!r} {problem}.")
    if not any("\t" in line for line in name_lines) and any("," in line for line in name_lines):
        logger.warning(
            "%s holds commas but no tab: tabs separate labels, so %r counts as one label.",
            labels,
            next(line for line in name_lines if "," in line),
        )
    known = None if label_texts is None else _read_label_texts(label_texts, encoding)
    y, names = labels_from_names(lists, None if known is None else list(known))
    described = names if known is None else list(known.values())
    return XCDataset(train_labels=y, train_texts=rows, label_texts=described, label_names=names)


def _read_label_texts(path: Path, encoding: str) -> dict[str, str]:
    described: dict[str, str] = {}
    for number, line in enumerate(read_lines(path, encoding), start=1):
        name, tab, text = line.partition("\t")
        if not tab:
            raise malformed(path, number, "no tab. Write the label's name, a tab, its text.")
        if problem := wrong_name(name):
            raise malformed(path, number, f"the label {name!r} {problem}.")
        if name in described:
            raise malformed(path, number, f"the label {name!r} has a line already. Merge them.")
        described[name] = text
    return described
