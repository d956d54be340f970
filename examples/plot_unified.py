"""
Two heads of one encoder
========================

A dual encoder knows labels by their texts, a classifier by their training rows. Which one is good
at which labels, and what do they reach together? Precision at 1 by the number of training texts
that the right label has. To keep the run short, training lasts five epochs only.
"""

from skxc import LabelTexts, UnifiedXC
from skxc.datasets import load_debian_related
from skxc.inspection import plot_precision_by_frequency, precision_by_frequency
from skxc.metrics import evaluate, inverse_propensity

data = load_debian_related()
labels = LabelTexts(data.label_texts, data.label_names)

# %%
# Both heads train in the same steps, on pools of labels that are mined anew every other epoch.
model = UnifiedXC(n_epochs=5, random_state=0).set_params(pool__refresh_every=2)
model.fit(data.train_texts, data.train_labels, label_features=labels)
for name, figure in model.pool_report_.items():
    print(f"{name:20}{figure:8.2f}")

# %%
# The head that scores can be changed without another fit.
weights = inverse_propensity(model.label_frequency_, model.n_samples_fit_)
bins = {}
for head in ("dual_encoder", "classifier", "both"):
    scores = model.set_params(heads__prediction=head).decision_function(data.test_texts)
    metrics = evaluate(
        data.test_labels,
        scores,
        metrics=["precision@1", "precision@5", "recall@10", "psp@1", "psp@5"],
        inverse_propensity=weights,
        filter_pairs=data.test_filter,
    )
    print(f"{head:13}", *(f"{metric} {100 * value:4.1f}" for metric, value in metrics.items()))
    bins[head] = precision_by_frequency(data.test_labels, scores, model.label_frequency_)

# %%
# Rare labels on the left, frequent ones on the right.
ax = plot_precision_by_frequency(bins)
ax.figure.savefig("unified_heads.png")
