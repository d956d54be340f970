"""``python -m skxc evaluate``: the metrics of a saved model on a data folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from skxc.commands._data import rows_to_predict
from skxc.commands._errors import UsageError
from skxc.commands._scores import percentages
from skxc.commands._tables import METRICS, markdown_table
from skxc.commands._worker import ASKED, filter_margin, predict_blocks
from skxc.datasets import load_xc_repository
from skxc.persistence import load


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
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the subcommand."""
    estimator, data = load(options.model), load_xc_repository(options.folder)
    X_test = rows_to_predict(data, options.texts)
    if estimator.n_labels_ != data.n_labels:
        raise UsageError(
            f"The model knows {estimator.n_labels_} labels but the data set has {data.n_labels}. "
            "Evaluate on the data set that the model was fitted on."
        )
    asked = min(ASKED, data.n_labels)
    k = min(asked + filter_margin(data.test_filter), data.n_labels)
    scores, _ = predict_blocks(estimator, X_test, k, data.n_labels)
    metrics = percentages(scores, data, asked)
    table = markdown_table(
        ["metric", "percent"],
        ([name, f"{metrics[name]:.2f}"] for name in METRICS if name in metrics),
    )
    sys.stdout.write(table + "\n")
    return 0
