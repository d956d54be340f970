"""``python -m skxc evaluate``: the metrics of a saved model on a data folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from skxc.benchmark import METRICS, load_folder, markdown_table, percentages, predict
from skxc.commands._options import add_encoding, load_model


def add_parser(subparsers: Any) -> None:
    """Add the subcommand with its options."""
    parser = subparsers.add_parser(
        "evaluate",
        help="metrics of a saved model on the test rows of a data folder",
        description="Print the metrics of a saved model on the test rows of a data folder.",
    )
    parser.add_argument("model", type=Path, help="a folder that `fit` or `estimator.save` wrote")
    parser.add_argument("folder", type=Path, help="a data folder; see the user guide for the files")
    parser.add_argument(
        "--texts", action="store_true", help="use texts even where features are given"
    )
    add_encoding(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the subcommand."""
    estimator = load_model(options.model)
    data = load_folder(options.folder, texts=options.texts, encoding=options.encoding)
    if estimator.n_labels_ != data.n_labels:
        raise ValueError(
            f"The model knows {estimator.n_labels_} labels but the data set has {data.n_labels}. "
            "Evaluate on the data set that the model was fitted on."
        )
    metrics = percentages(predict(estimator, data)[0], data)
    rows = ([name, f"{metrics[name]:.2f}"] for name in METRICS if name in metrics)
    sys.stdout.write(markdown_table(["metric", "percent"], rows) + "\n")
    return 0
