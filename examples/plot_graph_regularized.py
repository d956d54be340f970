"""
What a metadata graph buys, and where
=====================================

Debian packages recommend each other. Which packages a package depends on, and its tags, are known
for training texts and for many labels, not for the text that is asked about. The encoder first
learns to find these metadata nodes by the texts of samples and labels, then the task; prediction
sees text only. Which labels gain, what is left when the links are shuffled, and which predictions
did it change?
"""

import numpy as np
import scipy.sparse as sp
from matplotlib import pyplot

from skxc import AnchorGraph, GraphRegularizedXC, LabelTexts
from skxc.datasets import load_debian_related
from skxc.inspection import plot_precision_by_frequency, precision_by_frequency

data = load_debian_related()
names = np.array(data.label_names)
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
# Without a graph the estimator is a `DualEncoderXC`. Labels without a training text are group "0".
scores, bins = {}, {}
for name, one in edges.items():
    model = GraphRegularizedXC(calibration="held_out", random_state=0)
    model.fit(data.train_texts, data.train_labels, label_features=labels, **one)
    found = model.decision_function(data.test_texts)
    found -= found.multiply(data.test_filter)  # pairs that do not count
    found.eliminate_zeros()
    scores[name] = found
    bins[name] = precision_by_frequency(
        data.test_labels, found, model.label_frequency_, k=10, n_bins=6
    )
    print(f"{name:9} found among the first ten, percent of the true labels:")
    shares = zip(bins[name].names, bins[name].recall, strict=True)
    print("  ", *(f"{group}: {100 * share:.1f}" for group, share in shares))

# %%
# Rare labels are on the left. Above: what every group contributes to P@10. Below: how much more of
# its true labels are found than without a graph.
figure, axes = pyplot.subplots(2, 1, figsize=(8, 7), layout="constrained")
plot_precision_by_frequency(bins, ax=axes[0])
places = np.arange(len(bins["graph"].names))
for shift, name, color in ((-0.2, "graph", "C1"), (0.2, "shuffled", "C2")):
    gain = 100 * (bins[name].recall - bins["no graph"].recall)
    axes[1].bar(places + shift, gain, 0.4, color=color, label=name)
axes[1].axhline(0, color="black", linewidth=0.8)
axes[1].set_xticks(places, bins["graph"].names)
axes[1].set_xlabel("training rows of the label")
axes[1].set_ylabel("recall at 10 above no graph, points")
axes[1].legend()
figure.savefig("graph_regularized.png")


# %%
# Single predictions: the rank of every true label with the graph and without.
def ranks(found):
    """Return the rank of every true label, 100 where it is not among the first hundred."""
    rank = np.full(data.test_labels.nnz, 100)
    owners = np.repeat(np.arange(len(data.test_texts)), np.diff(data.test_labels.indptr))
    for pair, (row, label) in enumerate(zip(owners, data.test_labels.indices, strict=True)):
        here = slice(*found.indptr[row : row + 2])
        at = found.indices[here] == label
        if at.any():
            rank[pair] = (found.data[here] > found.data[here][at]).sum()
    return owners, rank


owners, before = ranks(scores["no graph"])
_, after = ranks(scores["graph"])
came, went = (after < 10) & (before >= 10), (after >= 10) & (before < 10)
print(f"{came.sum()} true labels came into the first ten, {went.sum()} fell out of them")

# %%
# The three that rose most to the first three places.
rise = np.where(after < 3, before - after, 0)
for pair in np.argsort(-rise, kind="stable")[:3]:
    row = owners[pair]
    print(f"\n{data.test_ids[row]}: {data.test_texts[row]}")
    true = names[data.test_labels.indices[pair]]
    place = before[pair] + 1 if before[pair] < 100 else "none of the first 100"
    print(f"  {true}: place {after[pair] + 1}, without the graph {place}")
    for name in ("no graph", "graph"):
        here = slice(*scores[name].indptr[row : row + 2])
        best = scores[name].indices[here][np.argsort(-scores[name].data[here])][:3]
        print(f"  {name:9}", ", ".join(names[best]))
