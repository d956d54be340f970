"""Benchmark runs on tiny folders, each in a process of its own."""

import json
import sys

import pytest
import scipy.sparse as sp

from skxc.benchmark import percentages
from skxc.commands import main
from skxc.datasets import hold_out, load_xc_repository

METRICS = [f"{m}@{k}" for m in ("P", "nDCG", "PSP") for k in (1, 3, 5)] + ["R@10"]
COSTS = [
    "fit_cpu_s",
    "fit_wall_s",
    "predict_cpu_us_per_sample",
    "latency_p50_us",
    "peak_rss_mb",
    "model_mb",
]


def _lines(captured):
    return [json.loads(line) for line in captured.out.splitlines()]


def test_one_line_per_seed_with_metrics_and_costs(text_folder, tmp_path, capfd):
    saved = tmp_path / "top.npz"
    log = tmp_path / "results.jsonl"
    arguments = [
        "benchmark",
        str(text_folder),
        "KNeighborsXC( n_neighbors = 9 )",
        "--seed",
        "3",
        "4",
    ]
    assert main([*arguments, "--json", str(log), "--predictions", str(saved)]) == 0
    captured = capfd.readouterr()
    records = _lines(captured)
    assert [json.loads(line) for line in log.read_text().splitlines()] == records
    assert [record["seed"] for record in records] == [3, 4]
    data = load_xc_repository(text_folder)
    for number, record in enumerate(records, start=1):
        assert record["dataset"] == "planted"
        assert record["estimator"] == "KNeighborsXC(n_neighbors=9)"
        assert record["graph"] is None
        assert record["asked"] == 12
        assert record["params"]["n_neighbors"] == 9
        assert record["params"]["vectorizer"].startswith("TfidfVectorizer(")
        assert [key for key in record if key[-1].isdigit()] == METRICS
        assert all(0 <= record[name] <= 100 for name in METRICS)
        expected = set(COSTS) if sys.platform == "linux" else set(COSTS) - {"peak_rss_mb"}
        assert all(record[name] > 0 for name in expected)
        scores = sp.load_npz(tmp_path / f"top-{number}.npz")
        assert percentages(scores, data) == {name: record[name] for name in METRICS}
        # The planted words name their labels: neighbours must find most of them.
        assert record["R@10"] > 80
    assert "| `KNeighborsXC(n_neighbors=9)` |" in captured.err
    assert " ± 0.00 |" in captured.err


def test_features_and_a_single_run(feature_folder, tmp_path, capfd):
    saved = tmp_path / "top.npz"
    arguments = ["benchmark", str(feature_folder), "KNeighborsXC(n_neighbors=2)"]
    assert main([*arguments, "--predictions", str(saved)]) == 0
    (record,) = _lines(capfd.readouterr())
    assert record["params"]["vectorizer"] is None
    assert record["P@1"] > 80
    assert sp.load_npz(saved).shape == (15, 12)


def test_a_failing_run_leaves_its_error_and_the_others_go_on(text_folder, capfd):
    # Constructors only assign: it is fit that finds the mistake.
    assert (
        main(["benchmark", str(text_folder), "KNeighborsXC(n_neighbors=0)", "KNeighborsXC()"]) == 1
    )
    failed, fine = _lines(capfd.readouterr())
    assert "'n_neighbors' parameter" in failed["error"]
    assert "P@1" not in failed
    assert "fit_cpu_s" not in failed
    assert "error" not in fine


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["KNeighbours()"], "'KNeighbours' is no class or preset"),
        (["KNeighborsXC()", "--graph", "kind"], "takes no graph"),
        (["KNeighborsXC()", "--label-graph", "far"], "'far'"),
        (["KNeighborsXC()", "--shuffle-graph"], "--shuffle-graph needs a graph"),
    ],
)
def test_mistakes_are_found_before_the_first_run(text_folder, capfd, options, message):
    assert main(["benchmark", str(text_folder), *options]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1


def test_a_missing_folder(tmp_path, capfd):
    assert main(["benchmark", str(tmp_path / "nowhere"), "KNeighborsXC()"]) == 2
    assert "nowhere is no folder" in capfd.readouterr().err


def test_a_folder_without_test_rows(text_folder, capfd):
    (text_folder / "test_labels.npz").unlink()
    (text_folder / "test_filter.npz").unlink()
    (text_folder / "test_texts.txt.gz").unlink()
    assert main(["benchmark", str(text_folder), "KNeighborsXC()"]) == 2
    assert "no test rows" in capfd.readouterr().err


def test_an_encoder_with_a_shuffled_label_graph(text_folder, capfd):
    expression = "DualEncoderXC(n_epochs=2, encoder=BagEncoder(dim=8))"
    arguments = ["benchmark", str(text_folder), expression, "--label-graph", "near"]
    assert main([*arguments, "--shuffle-graph", "--seed", "1"]) == 0
    (record,) = _lines(capfd.readouterr())
    assert record["graph"] == "near (shuffled)"
    assert record["n_iter"] == 2
    assert record["params"]["random_state"] == 1
    assert record["params"]["encoder"] == "BagEncoder(dim=8)"
    assert record["params"]["vectorizer"] is None


def test_held_out_training_rows_are_scored_instead_of_test_rows(text_folder, tmp_path, capfd):
    saved = tmp_path / "top.npz"
    arguments = ["benchmark", str(text_folder), "KNeighborsXC(n_neighbors=9)"]
    assert main([*arguments, "--hold-out", "20", "--predictions", str(saved)]) == 0
    (record,) = _lines(capfd.readouterr())
    held = hold_out(load_xc_repository(text_folder), 20)
    assert record["hold_out"] == 20
    scores = sp.load_npz(saved)
    assert scores.shape == held.test_labels.shape
    assert percentages(scores, held) == {name: record[name] for name in METRICS}
    assert record["R@10"] > 80


def test_too_many_held_out_rows_are_refused(text_folder, capsys):
    assert main(["benchmark", str(text_folder), "KNeighborsXC()", "--hold-out", "100000"]) == 2
    assert "`n_rows` must be between 1 and" in capsys.readouterr().err
