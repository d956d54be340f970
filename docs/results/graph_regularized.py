"""Measure what metadata graphs do to GraphRegularizedXC: one JSON line per run and stage.

python docs/results/graph_regularized.py FOLDER[:ROWS] GRAPH,... VARIANT,... SEED [SEED ...]

ROWS trains on a random part of the training rows. One fit serves all stages: the encoder alone,
with classifiers trained on the frozen encoder, and that with votes of training rows. Ablations
measure the encoder alone.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from skxc import Bandit, DualEncoderXC, GraphRegularizedXC, GraphTerms, RandomWalk, benchmark
from skxc.benchmark import NO_GRAPH, GraphChoice
from skxc.graphs import keep_strongest, without_hubs
from skxc.negatives import InBatch

MAIN = {
    "none": {},
    "graph": {},
    "shuffled": {},
    "both sides": {},  # labels without links get all those of their training rows
    "both sides shuffled": {},
}
PAPER = {  # its losses, batches, walk and weights, in as many epochs as all others
    "loss": "triplet",
    "negatives": InBatch(clustered=True, n_positives=1),
    "terms": GraphTerms(
        loss="triplet",
        weights=Bandit(init=0.1),
        schedule="constant",
        walk=RandomWalk(n_terms=5, width=128),
    ),
}
ABLATIONS = {
    "no pruning": {"terms__prune": False},
    "no sample side": {"terms__sides": "labels"},
    "no label side": {"terms__sides": "samples"},
    "fixed weights": {"terms__weights": 0.3},
    "weights a third": {"terms__weights": 0.1},
    "half weights": {"terms__weights": 0.15},
    "half weights random labels": {"terms__weights": 0.15, "terms__random_labels": True},
    "constant weights": {"terms__weights": 0.3, "terms__schedule": "constant"},
    "with a walk": {"terms__walk": RandomWalk(n_terms=5, width=128)},
    "triplet terms": {"terms__loss": "triplet", "terms__weights": Bandit(init=1.0)},
    "random labels": {"terms__random_labels": True},
    "random labels, shuffled": {"terms__random_labels": True},
    "paper": PAPER,
    "paper shuffled": PAPER,
    "paper none": PAPER,
}


class Measured(GraphRegularizedXC):
    """Counts the CPU seconds of the encoder's epochs, and the texts that a step encodes."""

    def _task(self, fit):
        task = super()._task(fit)
        parts, self.sizes = task._parts, []

        def counted(pool):
            self.sizes.append(sum(len(ids) for _, ids in parts(pool)))
            return parts(pool)

        task._parts = counted
        self.begun = time.process_time()
        return task

    def _model(self, fit, task, progress=None):
        if progress is not None:
            self.epoch_cpu_s = (time.process_time() - self.begun) / progress.epoch
            self.texts_per_step = float(np.mean(self.sizes))
        return super()._model(fit, task, progress)


def edges_as_labels(data, graphs):
    """Return y with the three labels that share most anchors with a row as further labels."""
    graph, samples = with_links_of_rows(data).anchor_graph(graphs)
    both = sp.csr_array(sp.vstack([samples, graph.to_csr()]))
    both = without_hubs(both, 500)  # anchors of everybody tell nothing
    shared = sp.csr_array(both[: data.n_train] @ both[data.n_train :].T)
    best = [keep_strongest(shared[i : i + 256], 3) for i in range(0, data.n_train, 256)]
    more = sp.csr_array(data.train_labels + sp.csr_array(sp.vstack(best)))
    more.data[:] = 1
    return more


def some_rows(data, n_rows):
    """Return the data with a random part of its training rows, and of their links."""
    rows = np.sort(np.random.default_rng(0).permutation(data.n_train)[:n_rows])
    anchors = {
        name: nodes._replace(sample_anchors=nodes.sample_anchors[rows])
        for name, nodes in data.anchors.items()
    }
    return replace(
        data,
        train_texts=[data.train_texts[row] for row in rows],
        train_labels=data.train_labels[rows],
        train_ids=None,
        train_filter=None,
        anchors=anchors,
    )


def with_links_of_rows(data):
    """Return the data with the links of their training rows for labels that have none."""
    anchors = {
        name: nodes._replace(label_anchors=sp.csr_array(data.train_labels.T @ nodes.sample_anchors))
        for name, nodes in data.anchors.items()
        if nodes.label_anchors is None
    }
    return replace(data, anchors={**data.anchors, **anchors})


def load(folder, hold_out=None):
    """Return the texts of a folder; only so many training rows of FOLDER:ROWS."""
    folder, _, n_rows = folder.partition(":")
    data = benchmark.load_folder(folder, hold_out=hold_out, texts=True)
    return Path(folder).name, some_rows(data, int(n_rows)) if n_rows else data


def measure(model, data):
    """Return the metrics of the test rows, recall by label frequency, and the cost."""
    scores, cost = benchmark.predict(model, data)
    bins = benchmark.by_frequency(scores, data, k=10)
    recall = dict(zip(bins.names, np.round(100 * bins.recall, 2), strict=True))
    figures = benchmark.percentages(scores, data)
    return figures | {"predict_cpu_us": cost, "recall_by_frequency": recall}


def run(data, graphs, variant, seed):
    """Fit one variant and yield the figures of its stages."""
    ablation = variant not in MAIN
    params = (MAIN | ABLATIONS).get(variant, {})
    usual = {"random_state": seed}
    if ablation:
        usual |= {"label_vectors": False, "votes": False}
    given, choice = data, GraphChoice(graphs, shuffled="shuffled" in variant)
    model = Measured(**usual).set_params(**params)
    if variant == "edges as labels":
        model, choice = DualEncoderXC(**usual), NO_GRAPH
        given = replace(data, train_labels=edges_as_labels(data, graphs))
    if variant.startswith("both sides"):
        if choice.shuffled:
            given = benchmark.shuffle_edges(given, np.random.default_rng(seed))
        given, choice = with_links_of_rows(given), GraphChoice(graphs)
    if "none" in variant:
        choice = NO_GRAPH
    cost = benchmark.fit(model, given, choice, seed=seed)
    common = {
        "variant": variant,
        "seed": seed,
        "fit_cpu_s": cost["fit_cpu_s"],
        "epoch_cpu_s": round(getattr(model, "epoch_cpu_s", 0), 2),
        "texts_per_step": round(getattr(model, "texts_per_step", 0)),
        "edges_kept": {k: round(float(v[-1]), 3) for k, v in edge_survival(model) if len(v)},
    }
    if not ablation:
        yield common | {"stage": "classifier and votes"} | measure(model, data)
        model.set_params(votes=False)
        yield common | {"stage": "classifier"} | measure(model, data)
        model.model_ = replace(model.model_, classifiers=None)
    yield common | {"stage": "encoder"} | measure(model, data)


def edge_survival(model):
    """Return (term, shares of edges kept), without the epochs."""
    table = getattr(model, "edge_survival_", {})
    return [(name, shares) for name, shares in table.items() if name != "epoch"]


if __name__ == "__main__":
    folder, graphs, variants, *seeds = sys.argv[1:]
    name, data = load(folder)
    for seed in map(int, seeds):
        for variant in variants.split(","):
            for record in run(data, tuple(graphs.split(",")), variant, seed):
                benchmark.write_line({"data": name, "n_train": data.n_train, **record})
