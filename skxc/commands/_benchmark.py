"""``python -m skxc benchmark``: quality and cost of estimators on one data folder."""

from __future__ import annotations

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import scipy.sparse as sp
from tqdm import tqdm

from skxc.commands._data import (
    GraphChoice,
    add_graph_arguments,
    fit_arguments,
    graph_choice,
    load_rows,
    rows_to_predict,
    sample_rows,
)
from skxc.commands._expression import build_estimator
from skxc.commands._process import wait
from skxc.commands._scores import percentages
from skxc.commands._tables import COSTS, summary_table
from skxc.commands._worker import read_figures
from skxc.datasets import XCDataset

STDERR = 2  # the descriptor
START = "import sys; from skxc.commands._worker import main; main(*sys.argv[1:])"

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
  python -m skxc benchmark FOLDER "DualEncoderXC(temperature=0.1)" --hold-out 2000
"""


@dataclass(frozen=True)
class Run:
    """One line of a benchmark."""

    folder: Path
    estimator: str
    seed: int
    graph: GraphChoice
    texts: bool = False
    hold_out: int | None = None
    predictions: Path | None = None

    def specification(self) -> str:
        """Return what the process of the run has to know, as JSON."""
        known = {"estimator": self.estimator, "seed": self.seed, "texts": self.texts}
        rows = {"folder": str(self.folder), "hold_out": self.hold_out}
        return json.dumps(rows | known | {"graph": asdict(self.graph)})


def add_parser(subparsers: Any) -> None:
    """Add the subcommand with its options."""
    parser = subparsers.add_parser(
        "benchmark",
        help="quality and cost of estimators on a data folder, one JSON line a run",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="a data folder; see the user guide for the files")
    parser.add_argument(
        "estimators",
        nargs="+",
        metavar="ESTIMATOR",
        help='an expression such as "DualEncoderXC(n_epochs=5)"',
    )
    add_graph_arguments(parser)
    parser.add_argument(
        "--seed", type=int, nargs="+", default=[0], help="values of random_state (default: 0)"
    )
    parser.add_argument(
        "--texts", action="store_true", help="use texts even where features are given"
    )
    parser.add_argument(
        "--hold-out",
        type=int,
        metavar="N",
        help="score N training rows that are kept out of fit instead of the test rows",
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
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the subcommand; return 1 if any of the runs failed."""
    data = load_rows(options.folder, options.hold_out)
    runs = list(_plan(options))
    _check(runs, data)
    records = []
    for one in tqdm(runs, desc="benchmark", unit="run"):
        record = measure(one, data)
        line = json.dumps(record)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        if options.json:
            with options.json.open("a") as file:
                file.write(line + "\n")
        records.append(record)
    sys.stderr.write("\n" + summary_table(records) + "\n")
    return int(any("error" in record for record in records))


def _plan(options: argparse.Namespace) -> Iterator[Run]:
    """Yield every estimator with every seed."""
    choice = graph_choice(options)
    pairs = [(estimator, seed) for estimator in options.estimators for seed in options.seed]
    for number, (estimator, seed) in enumerate(pairs, start=1):
        path = options.predictions
        if path is not None and len(pairs) > 1:
            path = path.with_name(f"{path.stem}-{number}{path.suffix}")
        folder = options.folder.resolve()
        yield Run(folder, estimator, seed, choice, options.texts, options.hold_out, path)


def _check(runs: list[Run], data: XCDataset) -> None:
    """Find mistakes in all expressions and graph names before the first process starts."""
    for one in {run.estimator: run for run in runs}.values():
        X, _ = sample_rows(data, one.texts)
        rows_to_predict(data, one.texts)
        fit_arguments(build_estimator(one.estimator), data, X, replace(one.graph, shuffled=False))


def measure(run: Run, data: XCDataset) -> dict[str, Any]:
    """Do one run in a process of its own and return its record."""
    with tempfile.TemporaryDirectory(prefix="skxc-") as folder:
        scratch = Path(folder)
        figures = _measure_in_process(run, scratch)
        metrics: dict[str, float] = {}
        if "predict_cpu_us_per_sample" in figures:
            scores = sp.csr_array(sp.load_npz(scratch / "predictions.npz"))
            metrics = percentages(scores, data, asked=figures["asked"])
            if run.predictions:
                shutil.copyfile(scratch / "predictions.npz", run.predictions)
    estimator = ast.unparse(ast.parse(run.estimator.strip(), mode="eval"))
    known: dict[str, Any] = {"dataset": run.folder.name}
    if run.hold_out is not None:
        known["hold_out"] = run.hold_out
    known |= {"estimator": estimator, "graph": run.graph.name}
    rest = [*COSTS, "n_iter", "asked", "package", "params", "error"]
    return (
        known | {"seed": run.seed} | metrics | {key: figures[key] for key in rest if key in figures}
    )


def _measure_in_process(run: Run, scratch: Path) -> dict[str, Any]:
    """Start the process of a run; return the figures it left, with an error if it failed."""
    specification = scratch / "specification.json"
    specification.write_text(run.specification())
    command = [sys.executable, "-c", START, str(specification), str(scratch)]
    # Sleeping instead of spinning threads: CPU figures then count work only.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    process = subprocess.Popen(command, stdout=STDERR, env=environment)
    peak = wait(process)
    figures = read_figures(scratch) | {"peak_rss_mb": peak}
    if process.returncode != 0:
        figures.setdefault("error", f"the process ended with exit status {process.returncode}")
    return figures
