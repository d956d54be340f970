"""Learned index against the tree that it starts from.

    python docs/results/learned_index.py FOLDER [--seed 0 1 2]
        [--params "classifiers__n_scored=100"] [--beam 2 5]
        [--variant "name: edges__beta=100.0" ...] [--no-tree] [--hold-out N]

Per seed: the learned index, and the tree, which trains for as many epochs with its edges fixed.
--params is given to both, "tree, beam x 3" follows three times as many clusters, and --beam adds
both models with other numbers of clusters. --variant measures changes of the learned index instead.
--hold-out scores training rows that are held out, not the test rows. One JSON line each, percent;
see docs/results/learned_index.md. "R@100 ceiling" is what a perfect ranking of all labels in the
index would reach, and with "shortlist" one of the labels of the row's shortlist.
"""

from __future__ import annotations

import argparse

import numpy as np
import scipy.sparse as sp

from skxc import LearnedIndexXC, benchmark
from skxc.encoders import BagEncoder

# What --params and --variant can name.
NAMES = {"BagEncoder": BagEncoder}


def ceilings(data, model, block=4096):
    """Return R@100 of a perfect ranking of all labels in the index, and of the shortlists."""
    truth = data.test_labels
    X = data.test_texts if data.train_features is None else data.test_features
    index, n_hits = model.label_index_, []
    for start in range(0, truth.shape[0], block):
        queries = model.transform(X[start : start + block])
        labels, _ = index.shortlist(queries, beam_width=model.beam_width)
        rows = np.repeat(np.arange(len(labels)), labels.shape[1])[labels.ravel() >= 0]
        ones = np.ones(len(rows), np.float32)
        found = sp.coo_array((ones, (rows, labels[labels >= 0])), (len(labels), truth.shape[1]))
        n_hits.append(truth[start : start + block].multiply(found.tocsr()).sum(axis=1))
    inside = np.isin(np.arange(truth.shape[1]), index.edge_labels).astype(np.float32)
    most = np.maximum(np.diff(truth.indptr), 1)
    hits = {"": truth @ inside, ", shortlist": np.concatenate(n_hits)}
    return {
        f"R@100 ceiling{of}": round(100 * float((np.minimum(n, 100) / most).mean()), 2)
        for of, n in hits.items()
    }


def report(data, model, about, name, fit_cpu_s):
    """Print one line about a fitted model."""
    scores, cost = benchmark.predict(model, data)
    line = {
        "model": name,
        **benchmark.percentages(scores, data),
        **ceilings(data, model),
        "fit_cpu_s": fit_cpu_s,
        "predict_cpu_us": cost,
        "coverage": model.coverage_,
        "shortlist_recall": round(model.shortlist_recall_, 4),
        "saturated_edges": round(model.saturated_edges_, 4),
        "positives_in_beam": [round(r["positives_in_beam"], 3) for r in model.history_],
    }
    benchmark.write_line(about | line)


def narrower(data, model, about, name, fit_cpu_s, beams):
    """Print one line for each number of clusters to follow instead of the default one."""
    for beam in beams:
        model.set_params(beam_width=beam)
        report(data, model, about, f"{name}, beam {beam}", fit_cpu_s)
    model.set_params(beam_width=None)


def fit(data, seed, **params):
    """Return a fitted learned index, and the CPU seconds."""
    model = LearnedIndexXC(random_state=seed).set_params(**params)
    return model, benchmark.fit(model, data)["fit_cpu_s"]


def main(options):
    """Run what was asked for."""
    data = benchmark.load_folder(options.folder, hold_out=options.hold_out, texts=options.texts)
    common = eval(f"dict({options.params})", NAMES)
    about = {"dataset": options.folder.name, "params": options.params, "hold_out": options.hold_out}
    for seed in options.seed:
        about["seed"] = seed
        for variant in options.variant:
            name, _, changes = variant.partition(":")
            model, cost = fit(data, seed, **{**common, **eval(f"dict({changes})", NAMES)})
            report(data, model, about, name, cost)
        if options.variant:
            continue
        model, cost = fit(data, seed, **common)
        report(data, model, about, "learned index", cost)
        narrower(data, model, about, "learned index", cost, options.beam)
        if options.no_tree:
            continue
        tree, cost = fit(data, seed, **{**common, "edges": False})
        report(data, tree, about, "tree", cost)
        narrower(data, tree, about, "tree", cost, options.beam)
        tree.set_params(beam_width=3 * tree.sizes_.beam_width)
        report(data, tree, about, "tree, beam x 3", cost)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    benchmark.add_run_arguments(parser)
    parser.add_argument("--params", default="")
    parser.add_argument("--variant", nargs="+", default=[])
    parser.add_argument("--no-tree", action="store_true")
    parser.add_argument("--beam", type=int, nargs="+", default=[])
    main(parser.parse_args())
