"""A run as a function; its records are tested through the command line."""

import json

import pytest

from skxc.benchmark import GraphChoice, load_folder, run, summary_table, write_line


def test_a_run_returns_its_record(text_folder):
    data = load_folder(text_folder, hold_out=15)
    record = run(text_folder, "KNeighborsXC(n_neighbors=9)", seed=3, hold_out=15, data=data)
    assert list(record)[:5] == ["dataset", "hold_out", "estimator", "graph", "seed"]
    assert record["R@10"] > 80
    assert record["fit_wall_s"] > 0
    assert "| `KNeighborsXC(n_neighbors=9)` |" in summary_table([record])


@pytest.mark.parametrize(
    ("expression", "graph", "message"),
    [
        ("KNeighborsXC(", GraphChoice(), "not an estimator expression"),
        ("KNeighborsXC()", GraphChoice(anchors=("kind",)), "takes no graph"),
    ],
)
def test_mistakes_are_found_before_the_process_starts(text_folder, expression, graph, message):
    with pytest.raises(ValueError, match=message):
        run(text_folder, expression, graph=graph)


def test_lines_go_to_standard_output_and_are_appended_to_a_file(tmp_path, capsys):
    path = tmp_path / "lines.jsonl"
    write_line({"a": 1})
    write_line({"a": 2}, path)
    write_line({"a": 3}, path)
    assert [json.loads(line)["a"] for line in capsys.readouterr().out.splitlines()] == [1, 2, 3]
    assert [json.loads(line)["a"] for line in path.read_text().splitlines()] == [2, 3]
