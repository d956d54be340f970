"""The ceiling of a graph: what anchors of held-out rows add, counted by hand and planted."""

import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.benchmark import GraphChoice, anchor_scores, ceiling, load_folder, percentages
from skxc.commands import main
from skxc.datasets import Anchors, XCDataset, save_xc_repository

N, L, HELD = 120, 30, 40


@pytest.fixture
def folder(tmp_path):
    """Every label has an anchor; a sample is linked to those of its labels, its text is noise."""
    rng = np.random.default_rng(0)
    y = np.eye(L, dtype=np.float32)[rng.integers(L, size=(N, 2))].max(axis=1)
    texts = [f"word{a} word{b}" for a, b in rng.integers(50, size=(N, 2))]
    data = XCDataset(
        train_labels=sp.csr_array(y),
        train_texts=texts,
        label_texts=[f"label{label}" for label in range(L)],
        test_labels=sp.csr_array(y[:5]),
        test_texts=texts[:5],
        anchors={
            "own": Anchors(sp.csr_array(y), sp.csr_array(np.eye(L)), [f"a{i}" for i in range(L)]),
            "rows": Anchors(sp.csr_array(y), None, [f"a{i}" for i in range(L)]),
        },
    )
    save_xc_repository(data, tmp_path / "data")
    return tmp_path / "data"


def test_similarity_of_anchors_by_hand(folder):
    data = load_folder(folder)
    held = load_folder(folder, hold_out=HELD)
    votes, own, both = anchor_scores(folder, GraphChoice(("own",)), HELD)
    # Anchors are labels here, so the held-out rows' anchors are their labels.
    linked = data.train_labels.toarray().sum(axis=0)
    idf = np.log((1 + N - HELD) / (1 + np.minimum(linked, N - HELD)))
    rows, kept = (part.toarray() * idf for part in (held.test_labels, held.train_labels))
    rows, kept = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (rows, kept))
    np.testing.assert_allclose(own.toarray(), rows, rtol=1e-5)
    for row in range(HELD):
        similar = rows[row] @ kept.T
        assert (similar > 0).sum() <= 50
        expected = similar / max(similar.sum(), 1e-9) @ held.train_labels.toarray()
        np.testing.assert_allclose(votes.toarray()[row], expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(both.toarray(), (own + votes).toarray(), rtol=1e-6)
    assert len(anchor_scores(folder, GraphChoice(("rows",)), HELD)) == 1


def test_the_best_way_and_weight_of_every_metric(folder):
    data = load_folder(folder, hold_out=HELD)
    rng = np.random.default_rng(1)
    scores = sp.csr_array(np.where(rng.random((HELD, L)) < 0.5, rng.random((HELD, L)) - 2, 0))
    without = percentages(scores, data)
    anchors = anchor_scores(folder, GraphChoice(("own",)), HELD)
    best = ceiling(scores, data, anchors)
    assert {best[name] for name in ("P@1", "R@10", "PSP@5")} == {100}
    # Nothing to add: the figures as they are. Misleading anchors: no worse than that.
    assert ceiling(scores, data, [sp.csr_array((HELD, L))]) == without
    wrong = sp.csr_array((data.test_labels.toarray() == 0).astype(float))
    assert ceiling(scores, data, [wrong]) == without
    half = sp.csr_array(data.test_labels.toarray() * (np.arange(HELD) % 2)[:, None])
    assert without["P@1"] + 20 < ceiling(scores, data, [half])["P@1"] < 100


def test_scores_keep_their_order_without_anchors(folder):
    """Labels that a list lacks come after its last, and lists keep their own scale."""
    data = load_folder(folder, hold_out=HELD)
    listed = np.zeros((HELD, L))
    listed[:, :3] = [-5.0, -1.0, -3.0]
    tiny = sp.csr_array(np.full((HELD, L), 1e-9))
    truth = sp.csr_array(np.tile(np.eye(L)[1], (HELD, 1)))
    data = replace(data, test_labels=truth)
    assert ceiling(sp.csr_array(listed), data, [tiny])["P@1"] == 100


def test_on_the_command_line(folder, capfd):
    arguments = ["benchmark", str(folder), "KNeighborsXC()", "--graph", "own", "--ceiling"]
    assert main([*arguments, "--hold-out", str(HELD)]) == 0
    captured = capfd.readouterr()
    without, best = map(json.loads, captured.out.splitlines())
    assert (without["graph"], best["graph"]) == (None, "own (ceiling)")
    assert without["P@1"] < 40
    assert best["P@1"] == best["PSP@5"] == 100
    assert {"dataset", "hold_out", "estimator", "seed"} < set(best)
    assert "| own (ceiling) | 1 | 100.00 |" in captured.err
    assert main([*arguments, "--hold-out", str(HELD), "--shuffle-graph"]) == 0
    without, best = map(json.loads, capfd.readouterr().out.splitlines())
    assert best["graph"] == "own (shuffled) (ceiling)"
    assert without["P@1"] <= best["P@1"] < 60
    assert main(arguments) == 2
    assert "--ceiling scores training rows" in capfd.readouterr().err
    assert main(["benchmark", str(folder), "KNeighborsXC()", "--ceiling", "--hold-out", "9"]) == 2
    assert "Add --graph NAME" in capfd.readouterr().err
