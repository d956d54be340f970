"""
What each head of UnifiedXC reaches, from one fit per seed and variant.

    python docs/results/unified_heads.py FOLDER --seed 0 1 2 --variant "{}" "{'symmetric': True}"
    python docs/results/unified_heads.py FOLDER --hold-out 1000 --weights 0,0 0.5,0.4 1,0

A variant holds parameters of UnifiedXC. Rows are scored as `python -m skxc benchmark` does it, with
--hold-out held-out training rows; one JSON line per seed, variant and head goes to standard output.
"both" is the learned fusion, "sum" that of UniDEC, "classifier, frequency" the learned one without
the dual encoder. --weights scores other weights of text and frequency instead.
"""

import argparse
import ast
import json
import sys

import numpy as np

from skxc import LabelTexts, UnifiedXC
from skxc.commands._process import cpu_seconds
from skxc.commands._scores import percentages
from skxc.datasets import hold_out, load_xc_repository
from skxc.inspection import precision_by_frequency
from skxc.utils._sparse import drop_pairs, pack_topk

SINGLE = ("dual_encoder", "classifier")


def fit(data, params, seed):
    """Return a fitted model and the CPU seconds it took."""
    model, start = UnifiedXC(**params, random_state=seed), cpu_seconds()
    labels = LabelTexts(data.label_texts)
    model.fit(data.train_texts, data.train_labels, label_features=labels)
    return model, round(cpu_seconds() - start, 1)


def measure(model, data, weights):
    """Yield the figures of every trained head, or of other weights."""
    if model.trained_heads_ != "both":
        yield figures(model, data, model.trained_heads_)
        return
    learned = model.fusion_weights_
    if not weights:
        yield figures(model, data, "both")
        for head in SINGLE:
            model.set_params(prediction_head=head)
            yield figures(model, data, head)
        model.set_params(prediction_head="both")
        weights = {"classifier, frequency": (0, learned[1]), "sum": (1, 0)}
    for name, pair in weights.items():
        model.fusion_weights_ = np.array(pair)
        yield figures(model, data, name)


def figures(model, data, name):
    """Return the figures of the model as it is set now."""
    found = model.predict_topk(data.test_texts, k=120)
    scores = pack_topk(*found, data.n_labels)
    return {
        "head": name,
        "fusion_weights": model.fusion_weights_.tolist(),
        **percentages(scores, data, asked=100),
        "pool_report": {name: round(figure, 3) for name, figure in model.pool_report_.items()},
        "by_frequency": by_frequency(data, scores, model.label_frequency_),
    }


def by_frequency(data, scores, frequency):
    """Return {training frequency of the best label: (predictions, hits)}, in per cent of rows."""
    bins = precision_by_frequency(
        data.test_labels, drop_pairs(scores, data.test_filter), frequency, k=1, n_bins=8
    )
    share = 100 / data.n_test
    counts = zip(bins.names, bins.n_predicted, bins.n_hits, strict=True)
    return {name: (round(share * n, 1), round(share * hits, 1)) for name, n, hits in counts}


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--seed", nargs="+", type=int, default=[0])
    parser.add_argument("--variant", nargs="+", default=["{}"])
    parser.add_argument("--hold-out", type=int)
    parser.add_argument("--weights", nargs="+", default=[])
    arguments = parser.parse_args()
    data = load_xc_repository(arguments.folder)
    if arguments.hold_out:
        data = hold_out(data, arguments.hold_out)
    weights = {pair: [float(part) for part in pair.split(",")] for pair in arguments.weights}
    name = arguments.folder.rstrip("/").rpartition("/")[2]
    for variant in arguments.variant:
        for seed in arguments.seed:
            model, seconds = fit(data, ast.literal_eval(variant), seed)
            for line in measure(model, data, weights):
                line = {"fit_cpu_s": seconds, **line}
                run = {"dataset": name, "variant": variant, "seed": seed}
                run["hold_out"] = arguments.hold_out
                sys.stdout.write(json.dumps({**run, **line}) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
