"""The process of one benchmark run: fit, save, predict and time one estimator.

`main` takes the names of a JSON file, the specification, and of a folder.  After each step
FOLDER/figures.json holds all that is known so far; FOLDER/predictions.npz gets the top labels of
the test rows before any filter.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from tqdm import tqdm

from skxc.commands._data import (
    GraphChoice,
    Rows,
    fit_arguments,
    give_vectorizer,
    load_rows,
    rows_to_predict,
    sample_rows,
    set_seed,
)
from skxc.commands._expression import build_estimator
from skxc.commands._process import cpu_seconds
from skxc.utils._sparse import pack_topk

ASKED = 100  # predictions per row ...
FILTER_MARGIN = 20  # ... and at most so many more where some will be dropped
BLOCK_ROWS = 8_192
LATENCY_K, LATENCY_ROWS, LATENCY_SECONDS, WARM_UP_CALLS = 10, 300, 10.0, 3


def measure(specification: dict[str, Any], scratch: Path) -> None:
    """Run the steps of one benchmark line; leave figures and predictions in `scratch`."""
    data = load_rows(Path(specification["folder"]), specification["hold_out"])
    X, _ = sample_rows(data, specification["texts"])
    X_test = rows_to_predict(data, specification["texts"])
    choice, seed = GraphChoice(**specification["graph"]), specification["seed"]
    estimator = build_estimator(specification["estimator"])
    set_seed(estimator, seed)
    give_vectorizer(estimator, X)
    arguments = fit_arguments(estimator, data, X, choice, seed)
    asked = min(ASKED, data.n_labels)
    note(
        scratch,
        package=f"skxc {metadata.version('skxc')}",
        asked=asked,
        params=plain_params(estimator),
    )

    cpu, wall = timed(lambda: estimator.fit(X, data.train_labels, **arguments))
    note(scratch, fit_cpu_s=round(cpu, 3), fit_wall_s=round(wall, 3))
    if hasattr(estimator, "n_iter_"):
        note(scratch, n_iter=int(estimator.n_iter_))
    estimator.save(scratch / "model")
    note(scratch, model_mb=folder_mib(scratch / "model"))

    k = min(asked + filter_margin(data.test_filter), data.n_labels)
    predictions, cpu = predict_blocks(estimator, X_test, k, data.n_labels)
    sp.save_npz(scratch / "predictions.npz", predictions, compressed=False)
    note(scratch, predict_cpu_us_per_sample=round(1e6 * cpu / data.n_test, 2))
    k = min(LATENCY_K, data.n_labels)
    latency = median_latency(lambda row: estimator.predict_topk(row, k=k), single_rows(X_test))
    note(scratch, latency_p50_us=latency)


def note(scratch: Path, **known: Any) -> None:
    """Add what is now known to the figures."""
    (scratch / "figures.json").write_text(json.dumps(read_figures(scratch) | known))


def read_figures(scratch: Path) -> dict[str, Any]:
    """Return the figures that are known so far."""
    path = scratch / "figures.json"
    return json.loads(path.read_text()) if path.exists() else {}


def timed(function: Callable[[], Any]) -> tuple[float, float]:
    """Call a function; return CPU seconds, those of its processes included, and wall seconds."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    function()
    return cpu_seconds() - cpu, time.perf_counter() - wall


def predict_blocks(estimator: Any, X: Rows, k: int, n_labels: int) -> tuple[sp.csr_array, float]:
    """Return the k best labels of every row as CSR, and the CPU seconds that they took."""
    n = len(X) if isinstance(X, list) else X.shape[0]
    estimator.predict_topk(X[:2], k=k)  # starts thread pools and the like
    blocks, cpu = [], 0.0
    for start in tqdm(range(0, n, BLOCK_ROWS), desc="predict", unit="block", leave=False):
        rows, begun = X[start : start + BLOCK_ROWS], cpu_seconds()
        indices, scores = estimator.predict_topk(rows, k=k)
        cpu += cpu_seconds() - begun
        blocks.append(pack_topk(indices, scores, n_labels))
    return sp.csr_array(sp.vstack(blocks, format="csr")), cpu


def single_rows(X: Rows) -> Iterator[Rows]:
    """Yield the first rows one at a time, each still a list of texts or a CSR array."""
    n = len(X) if isinstance(X, list) else X.shape[0]
    return (X[i : i + 1] for i in range(min(n, LATENCY_ROWS)))


def median_latency(function: Callable[[Rows], Any], rows: Iterator[Rows]) -> float:
    """Return the median wall time of one call in microseconds, over as many rows as time allows."""
    queries = list(rows)
    for row in queries[:WARM_UP_CALLS]:
        function(row)
    begun, seconds = time.perf_counter(), []
    for row in queries:
        start = time.perf_counter()
        function(row)
        seconds.append(time.perf_counter() - start)
        if time.perf_counter() - begun > LATENCY_SECONDS:
            break
    return round(1e6 * float(np.median(seconds)), 1)


def filter_margin(test_filter: sp.csr_array | None) -> int:
    """Return how many predictions more to ask for, since some of a row's will be dropped."""
    if test_filter is None:
        return 0
    return min(FILTER_MARGIN, int(np.diff(test_filter.indptr).max(initial=0)))


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


def main(specification: str, folder: str) -> None:
    """Measure, and leave the sentence of an error among the figures."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    scratch = Path(folder)
    try:
        measure(json.loads(Path(specification).read_text()), scratch)
    except Exception as problem:
        note(scratch, error=f"{type(problem).__name__}: {problem}")
        raise
