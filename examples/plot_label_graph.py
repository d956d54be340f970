"""
What a random walk finds out about labels
=========================================

Labels of Debian packages: which packages go together, according to the training rows alone? And
what does a classifier rest on, its own text, that of its neighbours, or a free vector? To
keep the run short, half of the texts are used and every stage trains for few epochs.
"""

import matplotlib.pyplot as plt
import numpy as np

from skxc import LabelGraphXC, LabelTexts
from skxc.datasets import load_debian_related
from skxc.encoders import BagEncoder
from skxc.inspection import label_neighborhood, plot_label_neighborhood

data = load_debian_related()
rows = np.arange(0, len(data.train_texts), 2)
texts = [data.train_texts[row] for row in rows]
labels = LabelTexts(data.label_texts, data.label_names)

model = LabelGraphXC(encoder=BagEncoder(dim=64), n_epochs=2, random_state=0)
model.fit(texts, data.train_labels[rows], label_features=labels)

# %%
# The neighbours of a label, heaviest edge first. The label need not share a row with all of them.
frequent = int(np.argmax(model.label_frequency_))
neighborhood = label_neighborhood(model, frequent)
print(neighborhood)

# %%
# What classifiers rest on, by the number of training rows of their labels. Own text and free vector
# share a weight of 1; the graph comes on top, as far as it helps on rows that it does not rest on.
frequency = model.label_frequency_
for low, high in ((1, 1), (2, 4), (5, 19), (20, np.inf)):
    some = (frequency >= low) & (frequency <= high)
    text, neighbours, own = model.fusion_weights_[some].mean(axis=0)
    print(
        f"{low:3} to {high:3} rows: {text:.2f} text, {neighbours:.2f} graph, {own:.2f} free vector"
    )

# %%
# The same as a picture.
figure, axes = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
plot_label_neighborhood(neighborhood, ax=axes[0])
order = np.argsort(frequency[model.trained_labels_], kind="stable")
weights = model.fusion_weights_[model.trained_labels_][order]
parts = [part.mean(axis=0) for part in np.array_split(weights, 10)]
axes[1].stackplot(range(10), np.array(parts).T, labels=["own text", "neighbours", "free vector"])
axes[1].set_xlabel("labels, from rare to frequent, in tenths")
axes[1].set_ylabel("mean weight in the classifier")
axes[1].legend(loc="lower left")
figure.savefig("label_graph.png")
