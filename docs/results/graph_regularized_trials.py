"""Trials of GraphRegularizedXC on held-out training rows: one JSON line per variant and seed.

python docs/results/graph_regularized_trials.py FOLDER[:ROWS] HELD_OUT SEED[,SEED] VARIANT ...

HELD_OUT training rows are scored instead of the test rows, and ROWS of the others are trained on.
A VARIANT is "none" or "GRAPH[,GRAPH] [NAME=VALUE ...]", with NAMES such as terms__weights and:

derived=K   labels keep, of every graph, the K anchors that most of their training rows have
rarity=P    labels of n training rows weigh (1 + n) ** -P in the label side

The encoder alone is measured.
"""

import ast
import sys
import warnings
from dataclasses import replace

import numpy as np
from graph_regularized import load, measure, with_links_of_rows

from skxc import GraphRegularizedXC, benchmark
from skxc.benchmark import NO_GRAPH, GraphChoice
from skxc.graphs import keep_edges, keep_strongest
from skxc.utils._sparse import row_ids


class Trial(GraphRegularizedXC):
    """Labels of the label side weigh by how rare they are."""

    rarity = 0.0

    def _task(self, fit):
        task = super()._task(fit)
        if self.rarity:
            n_rows = np.bincount(task.y.indices, minlength=task.y.shape[1])
            weight, sides_of = (1 + n_rows) ** -self.rarity, task._sides

            def sides(pool, rng):
                more, both = sides_of(pool, rng)
                ids, places, _ = both["labels"]
                return more, both | {"labels": (ids, places, weight[ids].astype(np.float32))}

            task._sides = sides
        return task


def without_answers(data):
    """Return the data without links that tell the answers of held-out rows."""
    names = set(data.test_ids or ())  # a held-out package must not tell its links as a label
    hidden = np.array([name in names for name in data.label_names])
    if "depends" in data.anchors:
        links = data.anchors["depends"].label_anchors
        data = with_links(data, {"depends": keep_edges(links, ~hidden[row_ids(links)])})
    return with_links_of_rows(data)


def with_few_anchors(data, top_k):
    """Return the data with the heaviest links of every label in every graph."""
    links = {name: nodes.label_anchors for name, nodes in data.anchors.items()}
    return with_links(data, {name: keep_strongest(part, top_k) for name, part in links.items()})


def with_links(data, links):
    """Return the data with other links of labels in some graphs."""
    sets = data.anchors
    changed = {name: sets[name]._replace(label_anchors=part) for name, part in links.items()}
    return replace(data, anchors={**sets, **changed})


def run(data, variant, seed):
    """Return the figures of one fit."""
    graphs, *settings = variant.split()
    params = {name: _value(text) for name, _, text in (s.partition("=") for s in settings)}
    top_k, rarity = params.pop("derived", None), params.pop("rarity", 0.0)
    model = Trial(random_state=seed, label_vectors=False, votes=False).set_params(**params)
    model.rarity = rarity
    choice = NO_GRAPH if graphs == "none" else GraphChoice(tuple(graphs.split(",")))
    cost = benchmark.fit(model, with_few_anchors(data, top_k) if top_k else data, choice)
    common = {"variant": variant, "seed": seed, "fit_cpu_s": cost["fit_cpu_s"]}
    return common | measure(model, data)


def _value(text):
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    folder, n_held, seeds, *variants = sys.argv[1:]
    name, data = load(folder, int(n_held))
    data = without_answers(data)
    common = {"data": name, "n_train": data.n_train, "n_held_out": data.n_test}
    for seed in map(int, seeds.split(",")):
        for variant in variants:
            benchmark.write_line(common | run(data, variant, seed))
