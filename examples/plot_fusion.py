"""
A linear tree and an encoder, fused
===================================

Which member is good at which labels, and what does their combination gain? Precision at 1 by the
number of training texts that the right label has. To keep the run short, the encoder trains for
four epochs only.
"""

from skxc import FusionXC, LabelTexts
from skxc.datasets import load_debian_related
from skxc.inspection import plot_precision_by_frequency, precision_by_frequency
from skxc.metrics import evaluate, inverse_propensity

data = load_debian_related()
labels = LabelTexts(data.label_texts, data.label_names)

# %%
# The members see 95 % of the training texts; the rest teaches how to combine them.
model = FusionXC(random_state=0).set_params(dual__n_epochs=4)
model.fit(data.train_texts, data.train_labels, label_features=labels)
for name, share in zip(model.named_estimators_, model.combiner_.shares, strict=True):
    print(f"{name:5} has the share {share:.2f}")

# %%
# The test rows, with pairs removed that the data set does not count.
weights = inverse_propensity(model.label_frequency_, model.n_samples_fit_)
bins = {}
for name, one in {"fusion": model, **model.named_estimators_}.items():
    scores = one.decision_function(data.test_texts)
    metrics = evaluate(
        data.test_labels,
        scores,
        metrics=["precision@1", "precision@5", "recall@10", "psp@1", "psp@5"],
        inverse_propensity=weights,
        filter_pairs=data.test_filter,
    )
    print(f"{name:7}", *(f"{metric} {100 * value:4.1f}" for metric, value in metrics.items()))
    bins[name] = precision_by_frequency(data.test_labels, scores, model.label_frequency_)

# %%
# Rare labels on the left, frequent ones on the right.
ax = plot_precision_by_frequency(bins)
ax.figure.savefig("fusion_by_frequency.png")
