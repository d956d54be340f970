"""The process of one benchmark run: fit, save, predict and time one estimator.

After each step FOLDER/figures.json holds all that is known so far; FOLDER/predictions.npz gets the
top labels of the test rows before any filter.
"""

from __future__ import annotations

import json
import logging
from importlib import metadata
from pathlib import Path
from typing import Any

import scipy.sparse as sp

from skxc.benchmark._data import GraphChoice, load_folder, prepare, sample_rows
from skxc.benchmark._expression import build_estimator
from skxc.benchmark._measure import first_rows, fit, median_latency, predict
from skxc.benchmark._scores import ASKED

LATENCY_K = 10


def main(specification: str, folder: str) -> None:
    """Measure what a specification, as JSON, says; leave figures and predictions in a folder.

    The sentence of an error goes among the figures too.
    """
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    scratch = Path(folder)
    try:
        measure(**json.loads(specification), scratch=scratch)
    except Exception as problem:
        note(scratch, error=f"{type(problem).__name__}: {problem}")
        raise


def measure(
    rows: dict[str, Any], expression: str, seed: int, graph: dict[str, Any], scratch: Path
) -> None:
    """Run the steps of one benchmark line."""
    data = load_folder(**rows)
    X_test = sample_rows(data, "test")
    estimator = prepare(build_estimator(expression), data, seed)
    package = f"skxc {metadata.version('skxc')}"
    asked = min(ASKED, data.n_labels)
    note(scratch, package=package, asked=asked, params=plain_params(estimator))

    note(scratch, **fit(estimator, data, GraphChoice(**graph), seed=seed))
    if hasattr(estimator, "n_iter_"):
        note(scratch, n_iter=int(estimator.n_iter_))
    estimator.save(scratch / "model")
    note(scratch, model_mb=folder_mib(scratch / "model"))

    predictions, cost = predict(estimator, data)
    sp.save_npz(scratch / "predictions.npz", predictions, compressed=False)
    note(scratch, predict_cpu_us_per_sample=cost)
    k = min(LATENCY_K, data.n_labels)
    latency = median_latency(lambda row: estimator.predict_topk(row, k=k), first_rows(X_test))
    note(scratch, latency_p50_us=latency)


def note(scratch: Path, **known: Any) -> None:
    """Add what is now known to the figures."""
    (scratch / "figures.json").write_text(json.dumps(read_figures(scratch) | known))


def read_figures(scratch: Path) -> dict[str, Any]:
    """Return the figures that are known so far."""
    path = scratch / "figures.json"
    return json.loads(path.read_text()) if path.exists() else {}


def folder_mib(folder: Path) -> float:
    """Return the size of all files in a folder, in MiB."""
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    return round(sum(sizes) / 2**20, 3)


def plain_params(estimator: Any) -> dict[str, Any]:
    """Return the estimator's parameters as JSON can hold them; objects become their repr."""
    plain = str | int | float | bool | None
    parameters = estimator.get_params(deep=False).items()
    return {
        name: value if isinstance(value, plain) else " ".join(repr(value).split())
        for name, value in parameters
    }
