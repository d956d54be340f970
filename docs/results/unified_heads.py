"""
What each head of UnifiedXC reaches, from one fit per seed and variant.

    python docs/results/unified_heads.py FOLDER --variant "{}" "{'heads__symmetric': True}"
    python docs/results/unified_heads.py FOLDER --hold-out 1000 --weights 0,0 0.5,0.4 1,0

A variant holds parameters of UnifiedXC. Rows are scored as `python -m skxc benchmark` does it, with
--hold-out held-out training rows; one JSON line per seed, variant and head goes to standard output.
"both" is the learned fusion, "sum" that of UniDEC, "classifier, frequency" the learned one without
the dual encoder. --weights scores other weights of text and frequency instead.
"""

import argparse
import ast
from dataclasses import replace

import numpy as np

from skxc import UnifiedXC, benchmark

SINGLE = ("dual_encoder", "classifier")


def fit(data, params, seed):
    """Return a fitted model and the CPU seconds it took."""
    model = UnifiedXC(random_state=seed).set_params(**params)
    return model, benchmark.fit(model, data)["fit_cpu_s"]


def measure(model, data, weights):
    """Yield the figures of every trained head, or of other weights."""
    if model.trained_heads_ != "both":
        yield figures(model, data, model.trained_heads_)
        return
    learned = model.fusion_weights_
    if not weights:
        yield figures(model, data, "both")
        for head in SINGLE:
            model.set_params(heads__prediction=head)
            yield figures(model, data, head)
        model.set_params(heads__prediction="both")
        weights = {"classifier, frequency": (0, learned[1]), "sum": (1, 0)}
    for name, pair in weights.items():
        model.model_ = replace(model.model_, fusion_weights=np.array(pair))
        yield figures(model, data, name)


def figures(model, data, name):
    """Return the figures of the model as it is set now."""
    scores, _ = benchmark.predict(model, data)
    return {
        "head": name,
        "fusion_weights": model.fusion_weights_.tolist(),
        **benchmark.percentages(scores, data),
        "pool_report": {name: round(figure, 3) for name, figure in model.pool_report_.items()},
        "by_frequency": shares(benchmark.by_frequency(scores, data, k=1, n_bins=8), data.n_test),
    }


def shares(bins, n_rows):
    """Return {training frequency of the best label: (predictions, hits)}, in per cent of rows."""
    counts = zip(bins.names, bins.n_predicted / n_rows, bins.n_hits / n_rows, strict=True)
    return {name: (round(100 * n, 1), round(100 * hits, 1)) for name, n, hits in counts}


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    benchmark.add_run_arguments(parser)
    parser.add_argument("--variant", nargs="+", default=["{}"])
    parser.add_argument("--weights", nargs="+", default=[])
    options = parser.parse_args()
    data = benchmark.load_folder(options.folder, hold_out=options.hold_out, texts=True)
    weights = {pair: [float(part) for part in pair.split(",")] for pair in options.weights}
    known = {"dataset": options.folder.name, "hold_out": options.hold_out}
    for variant in options.variant:
        for seed in options.seed:
            model, seconds = fit(data, ast.literal_eval(variant), seed)
            run = {**known, "variant": variant, "seed": seed, "fit_cpu_s": seconds}
            for line in measure(model, data, weights):
                benchmark.write_line(run | line)


if __name__ == "__main__":
    main()
