"""
How far the probabilities of fitted estimators are from the truth, as a user calls them.

    python docs/results/calibration.py FOLDER --seed 0
    python docs/results/calibration.py debian-related --families samesource --graph depends,tag

One fit per estimator with default parameters; then predict_proba on the test rows, also after
parameters that may be changed after fit were changed. ECE@1 and ECE@5 in percent, one JSON line per
estimator and setting on standard output. No pair is filtered. --families names a label graph whose
components are families of samples, for `fit(groups=...)`: the test rows of the Debian sets are of
sources that training did not see.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from skxc import benchmark
from skxc.metrics import ece_at_k

# What is changed after fit, one setting after the other.
SETTINGS = {
    "FusionXC()": [{}],
    "DualEncoderXC()": [{}, {"votes__weight": 0.0}, {"votes__weight": 1.0}, {"votes": False}],
    "UnifiedXC()": [
        {},
        {"heads__prediction": "classifier"},
        {"heads__prediction": "dual_encoder"},
        {"heads__prediction": "both", "fusion": "sum"},
    ],
    "LabelGraphXC()": [{}, {"clusters__beam_width": 20}, {"clusters__power": 1.0}],
    "LearnedIndexXC()": [{}, {"beam_width": 2}],
    "GraphRegularizedXC()": [{}, {"votes__weight": 0.0}],
    "LinearTreeXC()": [{}, {"beam_width": 3}],
    "KNeighborsXC(vectorizer=TfidfVectorizer())": [{}, {"n_neighbors": 5}],
}


def families(data, name):
    """Return the family of every training sample: the component of the label that it is."""
    labels = {name: number for number, name in enumerate(data.label_names)}
    _, component = connected_components(data.label_graph(name).to_csr(), directed=False)
    alone = component.max() + 1 + np.arange(data.n_train)
    return np.array(
        [
            component[labels[sample]] if sample in labels else other
            for sample, other in zip(data.train_ids, alone, strict=True)
        ]
    )


def measure(name, data, graph, groups, seed):
    """Yield ECE@1 and ECE@5 of an estimator for each setting."""
    model = benchmark.build_estimator(name)
    if "random_state" in model.get_params():
        model.set_params(random_state=seed)
    arguments = benchmark.fit_arguments(model, data, graph)
    model.fit(data.train_texts, data.train_labels, groups=groups, **arguments)
    truth = sp.csr_array(data.test_labels)
    for setting in SETTINGS[name]:
        model.set_params(**setting)
        line = {"estimator": name, "changed": str(setting)}
        try:
            proba = model.predict_proba(data.test_texts)
        except ValueError as refusal:  # all rows were trained on, none is left to calibrate by
            yield {**line, "refused": str(refusal)}
            continue
        yield {
            **line,
            "ECE@1": round(100 * ece_at_k(truth, proba, 1), 2),
            "ECE@5": round(100 * ece_at_k(truth, proba, 5), 2),
            "above_half": round(float((proba.data >= 0.5).sum() / truth.shape[0]), 2),
        }


def main():
    """Print a line per estimator and setting."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--graph", help="sets of anchors for GraphRegularizedXC, as in tag,depends")
    parser.add_argument("--families", help="a label graph whose components are families")
    parser.add_argument("--estimator", nargs="+", default=list(SETTINGS))
    arguments = parser.parse_args()
    data = benchmark.load_folder(arguments.folder)
    groups = families(data, arguments.families) if arguments.families else None
    for name in arguments.estimator:
        anchors = arguments.graph.split(",") if arguments.graph else ()
        graph = benchmark.GraphChoice(anchors if name.startswith("GraphRegularizedXC") else ())
        for line in measure(name, data, graph, groups, arguments.seed):
            line = {"dataset": Path(arguments.folder).name, "seed": arguments.seed, **line}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
