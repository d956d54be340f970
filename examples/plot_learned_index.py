"""
A tree, and an index that learns
================================

How many of the right labels are found when a search follows few clusters? A tree has put every
label into one cluster; a learned index lets labels live in several. Both have the same encoder, the
same clusters to start with, and the same number of epochs.
"""

import matplotlib.pyplot as plt

from skxc import IndexClusters, LearnedIndexXC
from skxc.datasets import make_planted_xc
from skxc.metrics import recall_at_k

data = make_planted_xc(
    2000, 300, n_test=500, vocabulary_gap=0.0, unseen_fraction=0.0, random_state=0
)

# %%
# The second stage of the first model keeps the edges of the tree; that of the second one learns.
settings = {"clusters": IndexClusters(n_epochs=6), "n_epochs": 6, "random_state": 0}
models = {
    "tree": LearnedIndexXC(edges=False, **settings),
    "learned index": LearnedIndexXC(**settings),
}
for model in models.values():
    model.fit(data.train_texts, data.train_labels)

# %%
# Labels that live in several clusters, and where.
index = models["learned index"].label_index_
print(index)
for label in index.shared_labels(min_weight=0.2)[:3]:
    print(
        f"label {label}:",
        *(f"cluster {c} ({weight:.2f})" for c, weight in index.clusters_of(label)[:4]),
    )

# %%
# The beam can be widened after training.
widths = [1, 2, 3, 4, 6, 8, 12, 16]
figure, ax = plt.subplots(figsize=(5, 3.5))
for name, model in models.items():
    recalls = []
    for width in widths:
        model.set_params(beam_width=width)
        scores = model.decision_function(data.test_texts)
        recalls.append(recall_at_k(data.test_labels, scores, k=20))
    print(name, *(f"{value:.3f}" for value in recalls))
    ax.plot(widths, recalls, marker="o", label=name)
ax.set(xlabel="clusters followed", ylabel="recall@20")
ax.legend()
figure.tight_layout()
figure.savefig("learned_index_beam.png")
