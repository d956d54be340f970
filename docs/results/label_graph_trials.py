"""Settings of LabelGraphXC on held-out training rows.

    python docs/results/label_graph_trials.py FOLDER N_ROWS "{'dropout': 0.1}" ...

A setting holds parameters. Those after a bar need no new fit: "{'dropout': 0.1} | {'beam_size': 9}"
prints one JSON line for either. Rows are held out as `python -m skxc benchmark --hold-out` does it.
"""

import ast
import json
import sys

import numpy as np

from skxc import LabelGraphXC, LabelTexts
from skxc.commands._process import cpu_seconds
from skxc.commands._scores import percentages
from skxc.datasets import hold_out, load_xc_repository
from skxc.utils._sparse import pack_topk


def measure(data, settings):
    """Fit with the first of the settings; yield the figures of each."""
    first, *others = settings
    model, start = LabelGraphXC(random_state=0, **first), cpu_seconds()
    model.fit(data.train_texts, data.train_labels, label_features=LabelTexts(data.label_texts))
    seconds = round(cpu_seconds() - start, 1)
    for setting in ({}, *others):
        model.set_params(**{**LabelGraphXC().get_params(), "random_state": 0, **first, **setting})
        scores = pack_topk(*model.predict_topk(data.test_texts, k=120), data.n_labels)
        yield {
            "setting": {**first, **setting},
            **percentages(scores, data, asked=100),
            "fit_cpu_s": seconds,
            "shortlist_recall": {k: round(v, 3) for k, v in model.shortlist_recall_.items()},
            "attention": np.round(model.fusion_weights_[model.trained_labels_].mean(0), 2).tolist(),
        }


def main(folder, n_rows, settings):
    """Print the lines."""
    data = hold_out(load_xc_repository(folder), int(n_rows))
    known = {"dataset": folder.rstrip("/").rpartition("/")[2], "hold_out": int(n_rows)}
    for setting in settings:
        for figures in measure(data, [ast.literal_eval(s.strip()) for s in setting.split("|")]):
            sys.stdout.write(json.dumps({**known, **figures}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
