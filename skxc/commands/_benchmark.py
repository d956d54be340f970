"""``python -m skxc benchmark``: quality and cost of estimators on one data folder."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import scipy.sparse as sp
from tqdm import tqdm

from skxc.benchmark import (
    NO_GRAPH,
    add_run_arguments,
    anchor_scores,
    ceiling,
    load_folder,
    run,
    summary_table,
    write_line,
)
from skxc.benchmark._run import check_run
from skxc.commands._options import add_encoding, add_graph_arguments, graph_choice, new_parser

DESCRIPTION = """\
Fit and score estimators on a data folder, each run in a process of its own.

Every run (estimator x seed) prints one JSON line on standard output: P@k, nDCG@k, PSP@k and R@k
in percent on the test rows, CPU and wall seconds of fit, CPU microseconds per predicted row,
median wall time from one raw text (or feature row) to its 10 best labels, peak memory of the
process and its children, size of the saved model. A Markdown table with means and standard
deviations over the seeds ends on standard error.
"""
EPILOG = """\
examples:
  python -m skxc benchmark FOLDER "KNeighborsXC()" "DualEncoderXC(n_epochs=5)" --seed 0 1 2
  python -m skxc benchmark FOLDER "DualEncoderXC()" --graph tag,section --shuffle-graph
  python -m skxc benchmark FOLDER "KNeighborsXC(n_neighbors=10)" --json results.jsonl
  python -m skxc benchmark FOLDER "DualEncoderXC(n_epochs=9)" --hold-out 2000
  python -m skxc benchmark FOLDER "DualEncoderXC()" --graph tag --ceiling --hold-out 2000
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand with its options."""
    summary = "quality and cost of estimators on a data folder, one JSON line a run"
    parser = new_parser(subparsers, "benchmark", summary, description=DESCRIPTION, epilog=EPILOG)
    add_run_arguments(parser)
    parser.add_argument(
        "estimators",
        nargs="+",
        metavar="ESTIMATOR",
        help='an expression such as "DualEncoderXC(n_epochs=5)"',
    )
    add_encoding(parser)
    add_graph_arguments(parser)
    parser.add_argument(
        "--ceiling",
        action="store_true",
        help="fit without the graph, and print also what adding the anchors of held-out rows "
        "themselves would give at most",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="append the lines to this file too"
    )
    parser.add_argument(
        "--predictions",
        type=Path,
        metavar="FILE.npz",
        help="save the unfiltered top labels of the test rows (of several runs: FILE-1.npz, ...)",
    )
    parser.set_defaults(run=run_all)


def run_all(options: argparse.Namespace) -> int:
    """Run the subcommand; return 1 if any of the runs failed."""
    rows = {name: getattr(options, name) for name in ("hold_out", "texts", "encoding")}
    data, graph = load_folder(options.folder, **rows), graph_choice(options)
    if options.ceiling:
        _check_ceiling(options)
    given = NO_GRAPH if options.ceiling else graph
    for estimator in dict.fromkeys(options.estimators):
        check_run(data, estimator, given)  # before the first process starts
    plan = [(estimator, seed) for estimator in options.estimators for seed in options.seed]
    records = []
    for number, (estimator, seed) in enumerate(tqdm(plan, desc="benchmark", unit="run"), start=1):
        path = options.predictions
        if path is not None and len(plan) > 1:
            path = path.with_name(f"{path.stem}-{number}{path.suffix}")
        with tempfile.TemporaryDirectory(prefix="skxc-") as scratch:
            kept = path or Path(scratch) / "predictions.npz"
            record = run(
                options.folder,
                estimator,
                seed=seed,
                graph=given,
                predictions=kept,
                data=data,
                **rows,
            )
            found = [record]
            if options.ceiling and "error" not in record:
                anchors = anchor_scores(options.folder, graph, options.hold_out, seed=seed)
                best = ceiling(sp.csr_array(sp.load_npz(kept)), data, anchors)
                what = ("dataset", "hold_out", "estimator", "seed")
                name = {"graph": f"{graph.name} (ceiling)"}
                found.append({key: record[key] for key in what} | name | best)
        for line in found:
            write_line(line, options.json)
        records += found
    sys.stderr.write("\n" + summary_table(records) + "\n")
    return int(any("error" in record for record in records))


def _check_ceiling(options: argparse.Namespace) -> None:
    """Raise ValueError unless there are anchors, and rows whose anchors are known."""
    if not options.graph:
        raise ValueError("--ceiling needs anchors of samples. Add --graph NAME.")
    if options.hold_out is None:
        raise ValueError(
            "--ceiling scores training rows, since only their anchors are known. Add --hold-out N."
        )
