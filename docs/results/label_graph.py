"""What settings of LabelGraphXC reach, and where: edges, attention, shortlist, hits by frequency.

    python docs/results/label_graph.py FOLDER [--hold-out N] [--seed 0 1 2] [--shuffle]
        [--setting S ...]

A setting holds parameters, those of parts too. Those after a bar need no new fit:
"{'encoder__dim': 128} | {'clusters__power': 1.0}" prints one JSON line for either. With --hold-out,
N training rows are scored, chosen as `python -m skxc benchmark` does it, instead of the test rows.
With --shuffle, every edge of the walk gets the right end of another edge: the control.
"""

import argparse
import ast
from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch

from skxc import LabelGraphXC, benchmark
from skxc.graphs import RandomWalk, keep_strongest, without_diagonal
from skxc.utils._sparse import pair_ids, row_ids

BINS = ((1, 1), (2, 4), (5, 19), (20, 10**9))


class ShuffledWalk(RandomWalk):
    """A walk whose strongest edges, but for self-loops, lead anywhere."""

    def visits(self, y, row_weight=None):
        """Return visits of as many labels from everywhere."""
        walked = super().visits(y, row_weight)
        edges = keep_strongest(without_diagonal(walked), self.top_k)
        ends = np.random.default_rng(0).permutation(edges.indices)
        moved = sp.csr_array((edges.data, ends, edges.indptr), shape=edges.shape)
        moved.sum_duplicates()
        return sp.csr_array(without_diagonal(moved) + sp.diags_array(walked.diagonal()))


def measure(data, settings, seed, shuffle):
    """Fit with the first of the settings; yield the figures of each."""
    first, *others = settings
    first = {"walk": ShuffledWalk()} | first if shuffle else first
    model = LabelGraphXC(random_state=seed).set_params(**first)
    cost = {"fit_cpu_s": benchmark.fit(model, data)["fit_cpu_s"]}
    for setting in ({}, *others):
        defaults = LabelGraphXC(random_state=seed).get_params(deep=False)
        model.set_params(**{**defaults, **first, **setting})
        scores, _ = benchmark.predict(model, data)
        shown = {
            name: value
            for name, value in {**first, **setting}.items()
            if name != "walk" or not value
        }
        run = {"setting": shown, "shuffled": shuffle, "seed": seed}
        yield run | benchmark.percentages(scores, data) | cost | where(model, data, scores)


def where(model, data, scores):
    """Return what the graph, the attention, the shortlist and the first places look like."""
    bins = benchmark.by_frequency(scores, data, k=1)
    hits = np.isin(pair_ids(data.test_labels), pair_ids(scores)).sum()
    share = np.round(100 * bins.contribution, 2).tolist()
    rows = benchmark.sample_rows(data, "test")
    found = {
        "fit_shortlist_recall": {k: round(v, 3) for k, v in model.shortlist_recall_.items()},
        "shortlist_recall": shortlists(model, rows, data.test_labels),
        "recall_of_scores": round(float(hits / data.test_labels.nnz), 4),
        "attention": by_frequency(model, model.fusion_weights_),
        "p_at_1_by_frequency": dict(zip(bins.names, share, strict=True)),
    }
    if model.label_graph_.nnz:
        found["confirmed_edges"] = by_frequency(model, edge_quality(model, data.test_labels))
    return found


def by_frequency(model, values):
    """Return means of the rows of `values` over labels of similar frequency."""
    found = {}
    for low, high in BINS:
        some = (model.label_frequency_ >= low) & (model.label_frequency_ <= high)
        name = str(low) if low == high else f"{low}-{high}" if high < 10**9 else f"{low}-"
        found[name] = np.round(np.nanmean(values[some], axis=0).astype(float), 3).tolist()
    return found


def edge_quality(model, y):
    """Return, per label, the part of its edge weight that scored rows confirm; NaN without any."""
    edges = without_diagonal(model.label_graph_)
    confirmed = np.isin(pair_ids(edges), pair_ids(sp.csr_array(y.T @ y)))
    rows, n_labels = row_ids(edges), edges.shape[0]
    weight = np.bincount(rows, edges.data, n_labels)
    part = np.bincount(rows, edges.data * confirmed, n_labels)
    seen = np.bincount(y.indices, minlength=n_labels) > 0
    return np.where(seen, part / np.maximum(weight, 1e-12), np.nan)


def shortlists(model, X, y):
    """Return the share of pairs whose label is in the shortlist, with and without GAME."""
    trained, recall = model.model_, {}
    first, rows, device = trained.members[0], trained.queries(X), torch.device("cpu")
    wanted = sp.csr_array(y[:, trained.labels])
    for name, spreads in (("game", True), ("plain", False)):
        settings = replace(trained.settings, propagate_clusters=spreads)
        found = sp.csr_array(first.shortlist(rows, settings, device) @ first.membership)
        hits = np.isin(pair_ids(wanted), pair_ids(found)).sum()
        recall[name] = round(float(hits / y.nnz), 4)
        recall[f"labels_{name}"] = round(found.nnz / found.shape[0], 1)
    return recall


def main():
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    benchmark.add_run_arguments(parser)
    parser.add_argument("--setting", nargs="+", default=["{}"])
    parser.add_argument("--shuffle", action="store_true")
    options = parser.parse_args()
    data = benchmark.load_folder(options.folder, hold_out=options.hold_out, texts=options.texts)
    known = {"dataset": options.folder.name, "hold_out": options.hold_out}
    for seed in options.seed:
        for setting in options.setting:
            parts = [ast.literal_eval(part.strip()) for part in setting.split("|")]
            for figures in measure(data, parts, seed, options.shuffle):
                benchmark.write_line(known | figures)


if __name__ == "__main__":
    main()
