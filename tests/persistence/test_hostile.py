"""Saved models of every estimator whose arrays and numbers were changed (see `hostile`)."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

import skxc
from skxc.datasets import make_planted_xc

SCRIPT = Path(__file__).with_name("hostile.py")


def estimators():
    tree = skxc.LinearTreeXC(
        tree=skxc.LabelTree(flat=False, max_leaf_size=8, n_trees=2), random_state=0
    )
    neighbors = skxc.KNeighborsXC(vectorizer=TfidfVectorizer())
    members = [("tree", skxc.LinearTreeXC(random_state=0)), ("neighbors", neighbors)]
    yield from (neighbors, tree, skxc.FusionXC(members))
    for cls in (skxc.DualEncoderXC, skxc.GraphRegularizedXC, skxc.UnifiedXC, skxc.LabelGraphXC,
                skxc.LearnedIndexXC):  # fmt: skip
        model = cls(n_epochs=1, random_state=0, calibration="held_out")
        yield model.set_params(encoder__dim=8, encoder__n_buckets=64)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a saved model of every estimator, and texts to ask them."""
    root = tmp_path_factory.mktemp("saved")
    data = make_planted_xc(n_samples=300, n_labels=60, random_state=0)
    graph, sample_graph = data.anchor_graph(next(iter(data.anchors)))
    for model in estimators():
        arguments = {}
        if hasattr(model, "label_features"):
            arguments["label_features"] = skxc.LabelTexts(data.label_texts)
        if isinstance(model, skxc.GraphRegularizedXC):
            arguments |= {"graph": graph, "sample_graph": sample_graph}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(data.train_texts, data.train_labels, **arguments)
        model.save(root / type(model).__name__)
        if type(model) is skxc.DualEncoderXC:
            monkeypatch = pytest.MonkeyPatch()
            monkeypatch.setattr("skxc.persistence._rounding.FEWEST_NUMBERS", 1)
            model.save(root / "rounded", dtype="int8")
            monkeypatch.undo()
    (root / "texts.json").write_text(json.dumps(list(data.test_texts[:20])))
    return root


def tried(root, how):
    """Return the lines of the script, which a crash cuts off behind the case that caused it."""
    done = subprocess.run(
        [sys.executable, SCRIPT, root, how],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{lines[-1:]} ended by {done.returncode}: {done.stderr[-2000:]}"
    return lines


def check(lines):
    assert [line for line in lines if "FAILED" in line] == []
    refused = sum(line.endswith(": refused") for line in lines)
    assert refused > 0.5 * len(lines)
    # What compiled loops follow is never used before it is checked.
    for name in ("roots", "first_child", "first_bucket", "shift", "buckets", "rows", "children"):
        for change in ("-1", "2^30", "type"):
            assert f"LinearTreeXC model_.weights.{name} {change}: refused" in lines
    for change in ("2^30", "type"):
        assert f"LearnedIndexXC model_.index.edge_labels {change}: refused" in lines
    for change in ("shorter", "type"):
        assert f"rounded model_.classifiers.vectors {change}: refused" in lines
        assert f"rounded model_.classifiers.vectors.steps {change}: refused" in lines
    assert "rounded model_.rows.vectors.vectors.steps nan: refused" in lines
    for name in ("texts", "rows.vectors"):
        assert f"DualEncoderXC model_.{name}.vectors nan: refused" in lines


def test_changed_models_are_refused_or_harmless(saved):
    check(tried(saved, "quick"))


@pytest.mark.slow
def test_changed_models_are_refused_or_harmless_thoroughly(saved):
    check(tried(saved, "thorough"))
