"""Markdown of benchmark records."""

import statistics

from skxc.benchmark import METRICS, markdown_table, summary_table
from skxc.benchmark._tables import COSTS


def test_markdown_table():
    table = markdown_table(["name", "value"], [["a", "1"], ["b", "2"]])
    assert table.splitlines() == ["| name | value |", "|---|--:|", "| a | 1 |", "| b | 2 |"]


def test_summary_has_mean_and_deviation_of_every_estimator_and_graph():
    base = {"estimator": "A()", "graph": None}
    values = [10.0, 12.0, 17.0]
    records = [base | {"seed": i, "P@1": value} for i, value in enumerate(values)]
    records += [base | {"graph": "tag", "seed": 0, "P@1": 33.333, "model_mb": 2.0}]
    records += [{"estimator": "B()", "seed": 0, "error": "failed"}]
    lines = summary_table(records).splitlines()
    columns = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert columns == ["estimator", "graph", "seeds", *METRICS, *COSTS]
    rows = [
        dict(zip(columns, (cell.strip() for cell in line[1:-1].split("|")), strict=True))
        for line in lines[2:]
    ]
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    assert [row["seeds"] for row in rows] == ["3", "1", "1"]
    assert rows[0]["P@1"] == f"{mean:.2f} ± {deviation:.2f}"
    assert rows[1] | {"P@1": "33.33", "model_mb": "2.00", "graph": "tag"} == rows[1]
    assert rows[2]["P@1"] == ""
