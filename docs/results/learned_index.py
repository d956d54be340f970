"""Learned index against the tree that it starts from, and with a sparse ranker.

    python docs/results/learned_index.py FOLDER [--seed 0 1 2] [--params "n_scored=100"]
        [--ranker "LinearTreeXC()"] [--beam 2 5] [--variant "name: edge_init='random'" ...]
        [--no-tree] [--hold-out N]

Per seed: the learned index, the same model re-ranked (with --ranker; both share one training), and
the tree, which trains for as many epochs with its edges fixed. --params is given to all of them,
"tree, beam x 3" follows three times as many clusters, and --beam adds both models with other
numbers of clusters. --variant measures changes of the learned index instead. --hold-out scores
training rows that are held out, not the test rows. One JSON line each, percent; see
docs/results/learned_index.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from skxc import LabelTexts, LearnedIndexXC, LinearTreeXC
from skxc.commands._scores import percentages
from skxc.datasets import hold_out, load_xc_repository
from skxc.encoders import BagEncoder
from skxc.linear import SparseRanker
from skxc.utils._sparse import normalize_rows

TOP = 100
# What --params, --variant and --ranker can name.
NAMES = {"BagEncoder": BagEncoder, "LinearTreeXC": LinearTreeXC, "SparseRanker": SparseRanker}


def sides(data):
    """Return training and test rows, and what else `fit` gets."""
    if data.train_features is not None:
        return normalize_rows(data.train_features), normalize_rows(data.test_features), {}
    return data.train_texts, data.test_texts, {"label_features": LabelTexts(data.label_texts)}


def report(data, rows, model, about, name, fit_cpu_s):
    """Print one line about a fitted model."""
    extra = 0 if data.test_filter is None else 20
    start = time.process_time()
    scores = model.set_params(top_k=TOP + extra).decision_function(rows)
    cpu = time.process_time() - start
    model.set_params(top_k=TOP)
    line = {
        **about,
        "model": name,
        **percentages(scores, data, TOP),
        "fit_cpu_s": round(fit_cpu_s, 1),
        "predict_cpu_us": round(1e6 * cpu / data.test_labels.shape[0], 1),
        "coverage": model.coverage_,
        "shortlist_recall": round(model.shortlist_recall_, 4),
        "saturated_edges": round(model.saturated_edges_, 4),
        "positives_in_beam": [round(r["positives_in_beam"], 3) for r in model.history_],
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def narrower(data, rows, model, about, name, fit_cpu_s, beams):
    """Print one line for each number of clusters to follow instead of the default one."""
    for beam in beams:
        model.set_params(beam_width=beam)
        report(data, rows, model, about, f"{name}, beam {beam}", fit_cpu_s)
    model.set_params(beam_width=None)


def timed_fit(model, rows, y, sides_of_labels):
    """Fit, and return the CPU seconds."""
    start = time.process_time()
    model.fit(rows, y, **sides_of_labels)
    return time.process_time() - start


def main(options):
    """Run what was asked for."""
    data = load_xc_repository(options.folder)
    about = {"dataset": Path(options.folder).name, "params": options.params}
    if options.hold_out:
        data = hold_out(data, options.hold_out)
        about["hold_out"] = options.hold_out
    train, test, labels = sides(data)
    y = data.train_labels
    common = eval(f"dict({options.params})", NAMES)
    budget = LearnedIndexXC(**common)
    epochs = budget.tree_epochs + budget.n_epochs
    for seed in options.seed:
        about["seed"] = seed
        for variant in options.variant:
            name, _, changes = variant.partition(":")
            changed = eval(f"dict({changes})", NAMES)
            model = LearnedIndexXC(random_state=seed, **{**common, **changed})
            report(data, test, model, about, name, timed_fit(model, train, y, labels))
        if options.variant:
            continue
        ranker = eval(options.ranker, NAMES) if options.ranker else None
        model = LearnedIndexXC(sparse_ranker=ranker, random_state=seed, **common)
        cost = timed_fit(model, train, y, labels)
        if options.ranker:
            report(data, test, model, about, f"learned index + {options.ranker}", cost)
        model.set_params(sparse_ranker=None)
        report(data, test, model, about, "learned index", cost)
        narrower(data, test, model, about, "learned index", cost, options.beam)
        if options.no_tree:
            continue
        tree = LearnedIndexXC(random_state=seed, **{**common, "tree_epochs": epochs, "n_epochs": 0})
        cost = timed_fit(tree, train, y, labels)
        report(data, test, tree, about, "tree", cost)
        narrower(data, test, tree, about, "tree", cost, options.beam)
        tree.set_params(beam_width=3 * tree.sizes_.beam_width)
        report(data, test, tree, about, "tree, beam x 3", cost)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--params", default="")
    parser.add_argument("--variant", nargs="+", default=[])
    parser.add_argument("--ranker")
    parser.add_argument("--no-tree", action="store_true")
    parser.add_argument("--beam", type=int, nargs="+", default=[])
    parser.add_argument("--hold-out", type=int, default=0)
    main(parser.parse_args())
