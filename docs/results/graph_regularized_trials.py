"""Trials of GraphRegularizedXC on held-out training rows: one JSON line per variant and seed.

python docs/results/graph_regularized_trials.py FOLDER[:ROWS] HELD_OUT SEED[,SEED] VARIANT ...

HELD_OUT training rows are scored instead of the test rows, and ROWS of the others are trained on.
A VARIANT is "none" or "GRAPH[,GRAPH] [NAME=VALUE ...]", with parameters of the estimator and:

derived=K   labels keep, of every graph, the K anchors that most of their training rows have
rarity=P    labels of n training rows weigh (1 + n) ** -P in the label side

The encoder alone is measured.
"""

import ast
import json
import sys
import time
import warnings
from dataclasses import replace

import numpy as np
import scipy.sparse as sp
from graph_regularized import some_rows, with_links_of_rows

from skxc import GraphRegularizedXC
from skxc.commands._data import GraphChoice, fit_arguments
from skxc.commands._scores import percentages
from skxc.datasets import hold_out, load_xc_repository
from skxc.graphs import keep_edges, keep_strongest
from skxc.inspection import precision_by_frequency
from skxc.labels import AnchorGraph
from skxc.utils._sparse import drop_pairs, pack_topk, row_ids


class Trial(GraphRegularizedXC):
    """Labels of the label side weigh by how rare they are."""

    rarity = 0.0

    def _encoder_task(self, run):
        task = super()._encoder_task(run)
        if self.rarity:
            n_rows = np.bincount(task.y.indices, minlength=task.y.shape[1])
            weight, sides_of = (1 + n_rows) ** -self.rarity, task._sides

            def sides(pool, rng):
                more, both = sides_of(pool, rng)
                ids, places, _ = both["labels"]
                return more, both | {"labels": (ids, places, weight[ids].astype(np.float32))}

            task._sides = sides
        return task


def without_answers(data, n_held, n_rows):
    """Return the data with held-out rows, `n_rows` others, and no links that tell the answers."""
    data = hold_out(data, n_held)
    names = set(data.test_ids or ())  # a held-out package must not tell its links as a label
    hidden = np.array([name in names for name in data.label_names])
    data = some_rows(data, n_rows)
    if "depends" in data.anchors:
        nodes = data.anchors["depends"]
        links = keep_edges(nodes.label_anchors, ~hidden[row_ids(nodes.label_anchors)])
        depends = nodes._replace(label_anchors=links)
        data = replace(data, anchors={**data.anchors, "depends": depends})
    return with_links_of_rows(data)


def with_few_anchors(graph, top_k):
    """Return the graph with the heaviest edges of every label in every group."""
    edges, parts = graph.to_csr(), []
    for start, stop in graph.groups.values():
        part = keep_edges(edges, (edges.indices >= start) & (edges.indices < stop))
        parts.append(keep_strongest(part, top_k))
    return AnchorGraph(sp.csr_array(sum(parts[1:], parts[0])), graph.texts, graph.groups)


def run(data, variant, seed):
    """Return the figures of one fit."""
    graphs, *settings = variant.split()
    params = {name: _value(text) for name, _, text in (s.partition("=") for s in settings)}
    top_k, rarity = params.pop("derived", None), params.pop("rarity", 0.0)
    usual = {"random_state": seed, "classifier_stage": False, "neighbor_weight": 0.0}
    model = Trial(**(usual | params))
    model.rarity = rarity
    choice = GraphChoice() if graphs == "none" else GraphChoice(tuple(graphs.split(",")))
    arguments = fit_arguments(model, data, data.train_texts, choice, seed)
    if top_k:
        arguments["graph"] = with_few_anchors(arguments["graph"], top_k)
    begun = time.process_time()
    model.fit(data.train_texts, data.train_labels, **arguments)
    cost = time.process_time() - begun
    found = pack_topk(*model.predict_topk(data.test_texts, k=120), data.n_labels)
    kept = found if data.test_filter is None else drop_pairs(found, data.test_filter)
    frequency = np.bincount(data.train_labels.indices, minlength=data.n_labels)
    bins = precision_by_frequency(data.test_labels, kept, frequency, k=10)
    return {
        "variant": variant,
        "seed": seed,
        "fit_cpu_s": round(cost, 1),
        **percentages(found, data, 100),
        "recall_by_frequency": dict(zip(bins.names, np.round(100 * bins.recall, 2), strict=True)),
    }


def _value(text):
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    folder, n_held, seeds, *variants = sys.argv[1:]
    folder, _, n_rows = folder.partition(":")
    data = load_xc_repository(folder)
    data = without_answers(data, int(n_held), int(n_rows) if n_rows else None)
    common = {
        "data": folder.rstrip("/").split("/")[-1],
        "n_train": data.n_train,
        "n_held_out": data.n_test,
    }
    for seed in map(int, seeds.split(",")):
        for variant in variants:
            sys.stdout.write(json.dumps(common | run(data, variant, seed)) + "\n")
            sys.stdout.flush()
