"""
A fusion for the metric that you name
=====================================

A linear tree and an encoder are fitted once, on 95 % of the training rows. The other rows teach
their combination, for one objective after the other. Is it better than the best member on the
metric that it was asked for? The bundled data, or a data folder:

    python plot_fusion_objectives.py [FOLDER]
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.frozen import FrozenEstimator

from skxc import DualEncoderXC, FusionXC, LabelTexts, LinearTreeXC
from skxc.datasets import load_debian_related, load_xc_repository
from skxc.metrics import evaluate, inverse_propensity

OBJECTIVES = ["precision@1", "ndcg@5", "psp@5"]
# A difference has the standard error of its mean over so many random parts of the test rows.
N_PARTS = 20

data = load_xc_repository(sys.argv[1]) if len(sys.argv) > 1 else load_debian_related()
has_texts = data.train_features is None
labels = LabelTexts(data.label_texts, data.label_names) if has_texts else None
X, X_test = (
    (np.array(data.train_texts, dtype=object), data.test_texts)
    if has_texts
    else (data.train_features, data.test_features)
)

# %%
# The members see 95 % of the training rows, and stay as they are from then on.
rng = np.random.default_rng(0)
rows = rng.permutation(data.n_train)
held_out, rest = np.split(rows, [min(1000, data.n_train // 20)])
members = [("tree", LinearTreeXC(random_state=0)), ("dual", DualEncoderXC(random_state=0))]
frozen = [
    (name, FrozenEstimator(one.fit(X[rest], data.train_labels[rest], label_features=labels)))
    for name, one in members
]
weights = inverse_propensity(data.train_labels.sum(axis=0), data.n_train)
parts = np.array_split(rng.permutation(data.n_test), N_PARTS)


def measure(scores, objective, part):
    """Return the objective in percent on some test rows."""
    filtered = None if data.test_filter is None else data.test_filter[part]
    values = evaluate(
        data.test_labels[part],
        scores[part],
        metrics=[objective],
        inverse_propensity=weights,
        filter_pairs=filtered,
    )
    (value,) = values.values()
    return 100 * value


# %%
# One fusion per objective, from the same members.
everything = np.arange(data.n_test)
alone = [one.decision_function(X_test) for _, one in frozen]
gains = []
for objective in OBJECTIVES:
    model = FusionXC(frozen, objective=objective)
    model.fit(X[held_out], data.train_labels[held_out], label_features=labels)
    fused = model.decision_function(X_test)
    values = [measure(scores, objective, everything) for scores in (fused, *alone)]
    best = alone[int(np.argmax(values[1:]))]
    gain = [measure(fused, objective, part) - measure(best, objective, part) for part in parts]
    gains.append((np.mean(gain), np.std(gain, ddof=1) / np.sqrt(N_PARTS)))
    rule = model.combiner_
    print(
        f"{objective:14}  fusion {values[0]:.2f}  tree {values[1]:.2f}  dual {values[2]:.2f}"
        f"  gain {gains[-1][0]:+.2f} ± {gains[-1][1]:.2f}"
        f"  shares {rule.shares.round(2)}  tilt {rule.tilt:.2f}  trees {rule.tree_share:.2f}"
    )

# %%
# What the fusion gains over its best member, with two standard errors.
figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
means, errors = np.array(gains).T
ax.bar(OBJECTIVES, means, yerr=2 * errors, capsize=4)
ax.axhline(0, color="black", linewidth=0.8)
ax.set_ylabel("gain over the best member, points")
figure.savefig("fusion_objectives.png")
