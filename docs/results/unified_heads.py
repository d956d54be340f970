"""
What each head of UnifiedXC reaches, from one fit per seed and variant.

    python docs/results/unified_heads.py FOLDER --seed 0 1 2 --variant "{}" "{'symmetric': True}"

A variant holds parameters of UnifiedXC. Test rows are scored as `python -m skxc benchmark` does it;
one JSON line per seed, variant and head goes to standard output.
"""

import argparse
import ast
import json
import sys

from skxc import LabelTexts, UnifiedXC
from skxc.commands._process import cpu_seconds
from skxc.commands._scores import percentages
from skxc.datasets import load_xc_repository
from skxc.inspection import precision_by_frequency
from skxc.utils._sparse import drop_pairs, pack_topk

HEADS = ("both", "dual_encoder", "classifier")


def measure(data, params, seed):
    """Fit once, and yield the figures of every trained head."""
    model, start = UnifiedXC(**params, random_state=seed), cpu_seconds()
    labels = LabelTexts(data.label_texts)
    model.fit(data.train_texts, data.train_labels, label_features=labels)
    seconds = round(cpu_seconds() - start, 1)
    for head in HEADS if model.trained_heads_ == "both" else [model.trained_heads_]:
        found = model.set_params(prediction_head=head).predict_topk(data.test_texts, k=120)
        scores = pack_topk(*found, data.n_labels)
        figures = percentages(scores, data, asked=100)
        report = {name: round(figure, 3) for name, figure in model.pool_report_.items()}
        yield {
            "head": head,
            **figures,
            "fit_cpu_s": seconds,
            "pool_report": report,
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
    arguments = parser.parse_args()
    data = load_xc_repository(arguments.folder)
    for variant in arguments.variant:
        for seed in arguments.seed:
            for figures in measure(data, ast.literal_eval(variant), seed):
                name = arguments.folder.rstrip("/").rpartition("/")[2]
                line = {"dataset": name, "variant": variant, "seed": seed, **figures}
                sys.stdout.write(json.dumps(line) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
