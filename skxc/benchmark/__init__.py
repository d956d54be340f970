"""Quality and cost of estimators on data folders: the harness behind ``python -m skxc benchmark``.

`run` measures an estimator in a process of its own. `load_folder`, `fit`, `predict` and
`percentages` are its steps, for experiments that do something in between.
"""

from __future__ import annotations

from skxc.benchmark._ceiling import anchor_scores, ceiling
from skxc.benchmark._data import (
    NO_GRAPH,
    GraphChoice,
    add_run_arguments,
    fit_arguments,
    load_folder,
    prepare,
    sample_rows,
    shuffle_edges,
)
from skxc.benchmark._expression import build_estimator
from skxc.benchmark._measure import fit, predict
from skxc.benchmark._run import run, write_line
from skxc.benchmark._scores import METRICS, by_frequency, percentages
from skxc.benchmark._tables import markdown_table, summary_table

__all__ = [
    "METRICS",
    "NO_GRAPH",
    "GraphChoice",
    "add_run_arguments",
    "anchor_scores",
    "build_estimator",
    "by_frequency",
    "ceiling",
    "fit",
    "fit_arguments",
    "load_folder",
    "markdown_table",
    "percentages",
    "predict",
    "prepare",
    "run",
    "sample_rows",
    "shuffle_edges",
    "summary_table",
    "write_line",
]
