"""
Cost of fit, save, load and first answer from 10^3 to 10^6 labels, on planted data.

    python docs/results/million.py --json million.jsonl      # all sizes, a process for each step
    python docs/results/million.py 1000000 --estimator "DualEncoderXC(n_epochs=2)"

Every size has as many training rows as labels, but 100,000 at most, of two topics and one word of
noise each; a fifth of the labels has no row. The fit and the first answer of the loaded model are
measured in processes of their own. The picture goes to million.png.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import skxc
from skxc import DualEncoderXC, FusionXC, LinearTreeXC, benchmark  # noqa: F401
from skxc.datasets import make_planted_xc

SIZES = [10**3, 10**4, 10**5, 10**6]
LARGEST_ROWS, N_TEST = 100_000, 1000
ESTIMATORS = [
    "DualEncoderXC(n_epochs=2)",
    "FusionXC([('tree', LinearTreeXC()), ('dual', DualEncoderXC(n_epochs=2))])",
]


def peak_gib():
    """Return the peak memory of this process."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def fit(n_labels, estimator, folder):
    """Fit and save; return the figures of this process."""
    n_rows = min(n_labels, LARGEST_ROWS)
    data = make_planted_xc(n_rows, n_labels, n_test=N_TEST, random_state=0)
    np.savez(folder / "test.npz", texts=np.array(data.test_texts))
    line = {"estimator": estimator, "n_labels": n_labels, "n_rows": n_rows}
    line["data_gib"] = peak_gib()
    model = eval(estimator).set_params(random_state=0)
    start = time.process_time()
    model.fit(data.train_texts, data.train_labels, label_features=data.label_texts)
    line["fit_cpu_s"] = round(time.process_time() - start, 1)
    line["fit_peak_gib"] = peak_gib()
    start = time.process_time()
    best = model.predict_topk(data.test_texts, k=10)[0]
    line["predict_cpu_us_per_row"] = round(1e6 * (time.process_time() - start) / N_TEST, 1)
    hit = np.asarray(data.test_labels.tocsr()[np.arange(N_TEST), best[:, 0]]).ravel()
    line["P@1"] = round(100 * float(hit.mean()), 2)
    start = time.process_time()
    model.save(folder / "model", dtype="int8", keep_for="prediction")
    line["save_cpu_s"] = round(time.process_time() - start, 1)
    size = sum(path.stat().st_size for path in (folder / "model").iterdir())
    return {**line, "model_mb": round(size / 1e6, 1)}


def answer(folder):
    """Load and answer one text; return the figures of this process."""
    text = [str(np.load(folder / "test.npz")["texts"][0])]
    start = time.process_time()
    model = skxc.load(folder / "model")
    loaded = time.process_time()
    model.predict_topk(text, k=10)
    first = time.process_time()
    model.predict_topk(text, k=10)
    return {
        "load_cpu_s": round(loaded - start, 2),
        "first_answer_cpu_s": round(first - loaded, 2),
        "second_answer_ms": round(1000 * (time.process_time() - first), 1),
        "answer_peak_gib": peak_gib(),
    }


def draw(lines, path):
    """Draw CPU, memory and disk against the number of labels."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    shown = {"fit_cpu_s": "fit, CPU s", "fit_peak_gib": "peak of fit, GiB", "model_mb": "disk, MB"}
    for axis, (name, label) in zip(axes, shown.items(), strict=True):
        for estimator in dict.fromkeys(line["estimator"] for line in lines):
            mine = [line for line in lines if line["estimator"] == estimator]
            sizes, values = ([line[key] for line in mine] for key in ("n_labels", name))
            axis.loglog(sizes, values, "o-", label=estimator.partition("(")[0])
        axis.set(xlabel="labels", ylabel=label)
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--estimator", nargs="+", default=ESTIMATORS)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path, help="draw all lines of --json")
    parser.add_argument("--step", choices=["fit", "answer"], help="in this process")
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    if asked.step == "fit":
        benchmark.write_line(fit(asked.sizes[0], asked.estimator[0], asked.folder))
    elif asked.step == "answer":
        benchmark.write_line(answer(asked.folder))
    elif asked.picture:
        draw([json.loads(line) for line in asked.json.read_text().splitlines()], asked.picture)
    else:
        for estimator in asked.estimator:
            for size in asked.sizes:
                with tempfile.TemporaryDirectory() as folder:
                    line = {}
                    for step in ("fit", "answer"):
                        command = [sys.executable, __file__, str(size), "--step", step]
                        command += ["--estimator", estimator, "--folder", folder]
                        run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                        line |= json.loads(run.stdout)
                benchmark.write_line(line, asked.json)


if __name__ == "__main__":
    main()
