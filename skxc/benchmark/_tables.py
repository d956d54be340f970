"""Markdown tables of benchmark records: mean and standard deviation over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from skxc.benchmark._scores import METRICS

COSTS = [
    "fit_cpu_s",
    "fit_wall_s",
    "predict_cpu_us_per_sample",
    "latency_p50_us",
    "peak_rss_mb",
    "model_mb",
]


def markdown_table(columns: list[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table; the first column is aligned left, the others right."""
    lines = ["| " + " | ".join(columns) + " |", "|---|" + "--:|" * (len(columns) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def summary_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Return mean ± standard deviation over the seeds of every estimator, one row each.

    The deviation is that of a sample (n - 1); with a single seed only the value is shown.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["estimator"], record.get("graph") or ""), []).append(record)
    columns = ["estimator", "graph", "seeds", *METRICS, *COSTS]
    rows = []
    for (estimator, graph), runs in groups.items():
        cells = [_mean_and_deviation(runs, column) for column in [*METRICS, *COSTS]]
        rows.append([f"`{estimator}`", graph, str(len(runs)), *cells])
    return markdown_table(columns, rows)


def _mean_and_deviation(runs: list[Mapping[str, Any]], column: str) -> str:
    values = [run[column] for run in runs if run.get(column) is not None]
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"
