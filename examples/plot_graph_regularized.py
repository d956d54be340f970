"""
What a metadata graph buys, and where
=====================================

Debian packages recommend each other. Which packages a package depends on, and its tags, are known
for training texts and for many labels. While the encoder trains, both are pulled towards the texts
of these metadata nodes; prediction sees text only. How much do labels gain that have few training
texts, or none at all, and how much of that is left when the links are shuffled?
"""

import numpy as np
import scipy.sparse as sp
from matplotlib import pyplot

from skxc import AnchorGraph, GraphRegularizedXC, LabelTexts
from skxc.datasets import load_debian_related
from skxc.inspection import (
    plot_edge_survival,
    plot_graph_weights,
    plot_precision_by_frequency,
    precision_by_frequency,
)

data = load_debian_related()
labels = LabelTexts(data.label_texts, data.label_names)
graph, sample_graph = data.anchor_graph(["depends", "tag"])


# %%
# The control of every experiment with a graph: the same links with their right ends permuted.
rng = np.random.default_rng(0)


def shuffled(links):
    """Return the links with random right ends; every row and every node keeps its number."""
    columns = rng.permutation(links.indices)
    return sp.csr_array((links.data, columns, links.indptr), shape=links.shape)


edges = {
    "no graph": {},
    "graph": {"graph": graph, "sample_graph": sample_graph},
    "shuffled": {
        "graph": AnchorGraph(shuffled(graph.to_csr()), texts=graph.texts, groups=graph.groups),
        "sample_graph": shuffled(sample_graph),
    },
}

# %%
# The encoder alone, trained equally long. Labels without a training text are the group "0".
models, bins = {}, {}
for name, one in edges.items():
    model = GraphRegularizedXC(label_vectors=False, votes=False, random_state=0)
    model.fit(data.train_texts, data.train_labels, label_features=labels, **one)
    scores = model.decision_function(data.test_texts)
    scores -= scores.multiply(data.test_filter)  # pairs that do not count
    scores.eliminate_zeros()
    found = precision_by_frequency(data.test_labels, scores, model.label_frequency_, k=10, n_bins=6)
    print(f"{name:9} found among the first ten, percent of the true labels:")
    print(
        "  ",
        *(f"{n}: {100 * share:.1f}" for n, share in zip(found.names, found.recall, strict=True)),
    )
    models[name], bins[name] = model, found

# %%
# Rare labels on the left; below, the weights of the graph over time, and the share of its links
# that the encoder agreed with.
figure, axes = pyplot.subplots(3, 1, figsize=(8, 9), layout="constrained")
plot_precision_by_frequency(bins, ax=axes[0])
plot_graph_weights(models["graph"], ax=axes[1])
plot_edge_survival(models["graph"], ax=axes[2])
figure.savefig("graph_regularized.png")
