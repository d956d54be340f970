"""One run of an estimator on a data folder, in a process of its own, and its record."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import scipy.sparse as sp

from skxc.benchmark._data import (
    NO_GRAPH,
    GraphChoice,
    fit_arguments,
    load_folder,
    sample_rows,
)
from skxc.benchmark._expression import build_estimator
from skxc.benchmark._process import wait
from skxc.benchmark._scores import percentages
from skxc.benchmark._tables import COSTS
from skxc.benchmark._worker import read_figures
from skxc.datasets import XCDataset

STDERR = 2  # the descriptor
START = "import sys; from skxc.benchmark._worker import main; main(*sys.argv[1:])"


def run(
    folder: str | Path,
    expression: str,
    *,
    seed: int = 0,
    graph: GraphChoice = NO_GRAPH,
    texts: bool = False,
    hold_out: int | None = None,
    predictions: str | Path | None = None,
    data: XCDataset | None = None,
) -> dict[str, Any]:
    """Fit and score one estimator in a process of its own.

    Parameters
    ----------
    folder : str or Path
        The data folder.
    expression : str
        The estimator, such as "DualEncoderXC(n_epochs=5)"; see :func:`build_estimator`.
    seed : int, default=0
        Its ``random_state``.
    graph : GraphChoice, default=NO_GRAPH
        The graph that `fit` gets.
    texts, hold_out
        As in :func:`load_folder`.
    predictions : str or Path, default=None
        File for the top labels of the test rows before the filter, as ``.npz``.
    data : XCDataset, default=None
        What :func:`load_folder` returned for these arguments, where it is there already.

    Returns
    -------
    dict
        What was run, metrics in percent and costs, as on the page about the command line; "error"
        with the reason if the run failed.

    Raises
    ------
    ValueError
        As :func:`check_run`, before the process starts.
    """
    folder = Path(folder).resolve()
    rows: dict[str, Any] = {"hold_out": hold_out, "texts": texts}
    data = data or load_folder(folder, hold_out=hold_out, texts=texts)
    check_run(data, expression, graph)
    with tempfile.TemporaryDirectory(prefix="skxc-") as name:
        scratch = Path(name)
        figures = _measure(
            scratch,
            rows={"folder": str(folder)} | rows,
            expression=expression,
            seed=seed,
            graph=asdict(graph),
        )
        metrics: dict[str, float] = {}
        if "predict_cpu_us_per_sample" in figures:
            scores = sp.csr_array(sp.load_npz(scratch / "predictions.npz"))
            metrics = percentages(scores, data)
            if predictions:
                shutil.copyfile(scratch / "predictions.npz", predictions)
    known: dict[str, Any] = {"dataset": folder.name}
    known |= {} if hold_out is None else {"hold_out": hold_out}
    estimator = ast.unparse(ast.parse(expression.strip(), mode="eval"))
    known |= {"estimator": estimator, "graph": graph.name, "seed": seed}
    rest = [*COSTS, "n_iter", "asked", "package", "params", "error"]
    return known | metrics | {key: figures[key] for key in rest if key in figures}


def check_run(data: XCDataset, expression: str, graph: GraphChoice = NO_GRAPH) -> None:
    """Raise ValueError for what would fail for certain: no rows, no such class, no such graph.

    Parameters
    ----------
    data : XCDataset
    expression : str
    graph : GraphChoice, default=NO_GRAPH
    """
    sample_rows(data)
    sample_rows(data, "test")
    fit_arguments(build_estimator(expression), data, replace(graph, shuffled=False))


def write_line(record: Mapping[str, Any], file: str | Path | None = None) -> None:
    """Print a record as one JSON line on standard output, and append it to a file if one is given.

    Parameters
    ----------
    record : mapping
    file : str or Path, default=None
    """
    line = json.dumps(record) + "\n"
    sys.stdout.write(line)
    sys.stdout.flush()
    if file is not None:
        with Path(file).open("a") as lines:
            lines.write(line)


def _measure(scratch: Path, **specification: Any) -> dict[str, Any]:
    """Start the process of a run; return the figures it left, with an error if it failed."""
    command = [sys.executable, "-c", START, json.dumps(specification), str(scratch)]
    # Sleeping instead of spinning threads: CPU figures then count work only.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    process = subprocess.Popen(command, stdout=STDERR, env=environment)
    peak = wait(process)
    figures = read_figures(scratch) | {"peak_rss_mb": peak}
    if process.returncode != 0:
        figures.setdefault("error", f"the process ended with exit status {process.returncode}")
    return figures
