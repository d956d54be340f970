"""One run of an estimator on a data folder, in a process of its own, and its record."""

from __future__ import annotations

import ast
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import scipy.sparse as sp

from skxc.benchmark._data import (
    NO_GRAPH,
    GraphChoice,
    fit_arguments,
    load_folder,
    prepare,
    sample_rows,
)
from skxc.benchmark._expression import build_estimator
from skxc.benchmark._measure import fit, median_latency, predict
from skxc.benchmark._process import wait
from skxc.benchmark._scores import ASKED, percentages
from skxc.benchmark._tables import COSTS
from skxc.datasets import XCDataset

STDERR = 2  # the descriptor
START = "import sys; from skxc.benchmark._run import main; main(*sys.argv[1:])"
# Files by which the process of a run answers.
FIGURES, PREDICTIONS = "figures.json", "predictions.npz"


def run(
    folder: str | Path,
    expression: str,
    *,
    seed: int = 0,
    graph: GraphChoice = NO_GRAPH,
    texts: bool = False,
    hold_out: int | None = None,
    encoding: str = "utf-8",
    predictions: str | Path | None = None,
    data: XCDataset | None = None,
) -> dict[str, Any]:
    """Fit and score one estimator in a process of its own.

    Parameters
    ----------
    folder : str or Path
        The data folder.
    expression : str
        The estimator, such as "DualEncoderXC(n_epochs=5)".
    seed : int, default=0
        Its ``random_state``.
    graph : GraphChoice, default=NO_GRAPH
        The graph that `fit` gets.
    texts, hold_out, encoding
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
        If there are no rows, no such estimator or no such graph.
    """
    folder = Path(folder).resolve()
    rows: dict[str, Any] = {"hold_out": hold_out, "texts": texts, "encoding": encoding}
    data = data or load_folder(folder, **rows)
    check_run(data, expression, graph)
    rows["folder"] = str(folder)
    with tempfile.TemporaryDirectory(prefix="skxc-") as scratch:
        figures = _start(
            Path(scratch), rows=rows, expression=expression, seed=seed, graph=asdict(graph)
        )
        metrics: dict[str, float] = {}
        if "predict_cpu_us_per_sample" in figures:
            found = Path(scratch) / PREDICTIONS
            metrics = percentages(sp.csr_array(sp.load_npz(found)), data)
            if predictions:
                shutil.copyfile(found, predictions)
    known: dict[str, Any] = {"dataset": folder.name}
    known |= {} if hold_out is None else {"hold_out": hold_out}
    estimator = ast.unparse(ast.parse(expression.strip(), mode="eval"))
    known |= {"estimator": estimator, "graph": graph.name, "seed": seed}
    rest = [*COSTS, "n_iter", "asked", "package", "params", "error"]
    return known | metrics | {key: figures[key] for key in rest if key in figures}


def check_run(data: XCDataset, expression: str, graph: GraphChoice) -> None:
    """Raise ValueError for what would fail for certain: no rows, no such class, no such graph."""
    sample_rows(data)
    sample_rows(data, "test")
    fit_arguments(build_estimator(expression), data, replace(graph, shuffled=False))


def write_line(record: Mapping[str, Any], file: str | Path | None = None) -> None:
    """Print a record as one JSON line, and append it to a file if one is given."""
    line = json.dumps(record) + "\n"
    sys.stdout.write(line)
    sys.stdout.flush()
    if file is not None:
        with Path(file).open("a") as lines:
            lines.write(line)


def _start(scratch: Path, **specification: Any) -> dict[str, Any]:
    """Start the process of a run; return the figures it left, with an error if it failed."""
    command = [sys.executable, "-c", START, json.dumps(specification), str(scratch)]
    # Sleeping instead of spinning threads: CPU figures then count work only.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    # Ctrl-C ends this process, which ends that one.
    process = subprocess.Popen(command, stdout=STDERR, env=environment, start_new_session=True)
    peak, path = wait(process), scratch / FIGURES
    figures = json.loads(path.read_text()) if path.exists() else {}
    if process.returncode != 0:
        figures.setdefault("error", f"the process ended with exit status {process.returncode}")
    return figures | {"peak_rss_mb": peak}


# ---------------------------------------------------------------- the process of a run
def main(specification: str, folder: str) -> None:
    """Do what a specification, as JSON, says; leave all that is known after each step."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    figures: dict[str, Any] = {}
    try:
        for known in _steps(Path(folder), **json.loads(specification)):
            figures |= known
            (Path(folder) / FIGURES).write_text(json.dumps(figures))
    except Exception as problem:
        figures["error"] = f"{type(problem).__name__}: {problem}"
        (Path(folder) / FIGURES).write_text(json.dumps(figures))
        raise


def _steps(
    scratch: Path, rows: dict[str, Any], expression: str, seed: int, graph: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Fit, save, predict and time one estimator; yield the figures of each step."""
    data = load_folder(**rows)
    estimator = prepare(build_estimator(expression), data, seed)
    yield {
        "package": f"skxc {metadata.version('skxc')}",
        "asked": min(ASKED, data.n_labels),
        "params": plain_params(estimator),
    }
    yield fit(estimator, data, GraphChoice(**graph), seed=seed)
    if hasattr(estimator, "n_iter_"):
        yield {"n_iter": int(estimator.n_iter_)}
    estimator.save(scratch / "model")
    sizes = [file.stat().st_size for file in (scratch / "model").rglob("*") if file.is_file()]
    yield {"model_mb": round(sum(sizes) / 2**20, 3)}
    scores, cost = predict(estimator, data)
    sp.save_npz(scratch / PREDICTIONS, scores, compressed=False)
    yield {"predict_cpu_us_per_sample": cost}
    yield {"latency_p50_us": median_latency(estimator, data)}


def plain_params(estimator: Any) -> dict[str, Any]:
    """Return the estimator's parameters as JSON can hold them; objects become their repr."""
    plain = str | int | float | bool | None
    return {
        name: value if isinstance(value, plain) else " ".join(repr(value).split())
        for name, value in estimator.get_params(deep=False).items()
    }
