"""``python -m skxc demo``: from texts to a saved model that names labels, on real data."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer

from skxc.benchmark import by_frequency, fit, markdown_table, percentages, predict, prepare
from skxc.benchmark._scores import n_predictions
from skxc.commands._predict import label_lines
from skxc.datasets import XCDataset, load_debian_related
from skxc.inspection import plot_precision_by_frequency
from skxc.utils._sparse import pack_topk, rank_rows

DESCRIPTION = """\
Fit estimators on a bundled data set: name and title of a Debian package -> the packages that it
recommends, suggests or enhances. Prints a table, and leaves a plot and a saved model in a folder.
"""
COLUMNS = ["P@1", "P@5", "PSP@5", "R@10"]
QUICK_ROWS = 1_000
UNSEEN = [
    "fast terminal file manager : browses directories and previews images and archives",
    "python3 postgres mapper : object relational mapper for PostgreSQL databases in Python 3",
    "synth player : plays MIDI files with software synthesizers and sound fonts",
]


def add_parser(subparsers: Any) -> None:
    """Add the subcommand with its options."""
    parser = subparsers.add_parser(
        "demo",
        help="fit, compare, save and use estimators on a bundled data set",
        description=DESCRIPTION,
    )
    parser.add_argument("--quick", action="store_true", help="few training rows, one epoch")
    parser.add_argument(
        "--output", type=Path, default=Path("demo-output"), help="folder (default: demo-output)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the subcommand."""
    from skxc.estimators import DualEncoderXC, KNeighborsXC

    options.output.mkdir(parents=True, exist_ok=True)
    data = load_debian_related()
    if options.quick:
        data = first_rows(data, QUICK_ROWS)
    _say(f"{data.n_train} training texts, {data.n_test} test texts, {data.n_labels} labels")

    encoder = DualEncoderXC(verbose=1)
    if options.quick:
        encoder.set_params(n_epochs=1)
    contestants = {"KNeighborsXC": KNeighborsXC(), "DualEncoderXC": encoder}
    rows, bins = [], {}
    for name, estimator in {"cosine to the label text": None, **contestants}.items():
        sys.stderr.write(f"{name} ...\n")
        begun = time.perf_counter()
        scores = label_cosine(data) if estimator is None else _fit_and_predict(estimator, data)
        seconds, metrics = time.perf_counter() - begun, percentages(scores, data)
        rows.append([name, *(f"{metrics[column]:.1f}" for column in COLUMNS), f"{seconds:.0f}"])
        bins[name] = by_frequency(scores, data)
    _say("\n" + markdown_table(["percent", *COLUMNS, "seconds"], rows))

    figure = options.output / "precision_by_frequency.png"
    plot_precision_by_frequency(bins).figure.savefig(figure, dpi=120)
    _say(f"\nPrecision from rare to frequent labels: {figure}")
    encoder.save(options.output / "model")  # replaces that of an earlier demo
    _use_saved_model(options.output / "model")
    return 0


def _fit_and_predict(estimator: Any, data: XCDataset) -> sp.csr_array:
    fit(prepare(estimator, data, seed=0), data)
    return predict(estimator, data)[0]


def label_cosine(data: XCDataset) -> sp.csr_array:
    """Return the TF-IDF cosines between test texts and label texts: learns nothing from labels."""
    vectorizer = TfidfVectorizer(sublinear_tf=True, dtype=np.float32).fit(data.train_texts)
    labels = vectorizer.transform(data.label_texts).T
    cosines = sp.csr_array(vectorizer.transform(data.test_texts) @ labels)
    return pack_topk(*rank_rows(cosines, n_predictions(data)), data.n_labels)


def first_rows(data: XCDataset, n: int) -> XCDataset:
    """Return the data set with its first training and test rows, and all labels, without graphs."""
    cut = {
        name: value[:n]
        for name, value in vars(data).items()
        if name.startswith(("train_", "test_")) and value is not None
    }
    return replace(data, **cut, anchors={})


def _use_saved_model(folder: Path) -> None:
    """Load the model and print the best labels of texts that it has never seen."""
    from skxc.persistence import load

    estimator = load(folder)
    _say(f"\nSaved model: {folder}. Labels and scores of unseen texts, best first:")
    for text, line in zip(UNSEEN, label_lines(estimator, UNSEEN, k=5), strict=True):
        names, scores = line.split("\t")[::2], line.split("\t")[1::2]
        found = ", ".join(f"{name} ({score})" for name, score in zip(names, scores, strict=True))
        _say(f"  {text}\n    -> {found}")
    _say(
        "\nYour turn:\n"
        f'  echo "{UNSEEN[0]}" | python -m skxc predict {folder}\n'
        "  python -m skxc fit --texts texts.txt --labels labels.txt --output my-model"
    )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
