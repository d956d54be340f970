"""
Quickstart: texts in, label names out
=====================================

A label is a Debian package here, and a text is the name and the title of another package: which
packages does it recommend or suggest?  11,920 labels, 90 % of them with fewer than five training
texts.
"""

import tempfile
from pathlib import Path

from skxc import DualEncoderXC, LabelTexts, load
from skxc.datasets import load_debian_related
from skxc.inspection import plot_precision_by_frequency, precision_by_frequency
from skxc.metrics import evaluate, inverse_propensity

data = load_debian_related()
labels = LabelTexts(data.label_texts, data.label_names)

# %%
# Fit an encoder that maps texts and label texts to the same space.
model = DualEncoderXC(random_state=0, verbose=1)
model.fit(data.train_texts, data.train_labels, label_features=labels)

# %%
# Head and tail: precision counts all labels alike, PSP gives rare ones more weight.
scores = model.decision_function(data.test_texts)
weights = inverse_propensity(model.label_frequency_, model.n_samples_fit_)
metrics = evaluate(
    data.test_labels,
    scores,
    metrics=["precision", "psp", "recall@10"],
    inverse_propensity=weights,
    filter_pairs=data.test_filter,
)
for name, value in metrics.items():
    print(f"{name:12} {100 * value:5.1f} %")

# %%
# A saved model is a folder; what comes back gives the same answers.
with tempfile.TemporaryDirectory() as folder:
    model.save(Path(folder) / "model")
    model = load(Path(folder) / "model")
for names in model.predict_labels(["fast terminal file manager : previews images"], k=5):
    print(", ".join(names))

# %%
# Where does the precision come from?
bins = precision_by_frequency(data.test_labels, scores, model.label_frequency_)
ax = plot_precision_by_frequency({"DualEncoderXC": bins})
ax.figure.savefig("precision_by_frequency.png")
