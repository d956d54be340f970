"""
Time of a step and peak memory of UnifiedXC as the number of labels grows, on planted data.

    python docs/results/unified_scaling.py                # 10^3 to 10^6 labels, a process each
    python docs/results/unified_scaling.py 1000 --dtype bfloat16

Batch (512 rows), pool (1,000 labels) and vocabulary are the same for all sizes. A step is what lies
between the starts of two batches of an epoch: drawing the pool, both passes, the optimisers. One
JSON line per size goes to standard output, and the picture to unified_scaling.png.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

from skxc import UnifiedXC, benchmark
from skxc.datasets import make_planted_xc

SIZES = [10**3, 10**4, 10**5, 10**6]
N_SAMPLES, BATCH, POOL, EPOCHS = 5120, 512, 1000, 4
TOPICS = 2900  # enough for a million labels; the words of all sizes are the same


def measure(n_labels, dtype):
    """Fit once, and return the figures of this process."""
    from skxc.estimators._unified import LabelPool, LabelTable
    from skxc.estimators._unified.task import UnifiedTask

    data = make_planted_xc(
        N_SAMPLES, n_labels, n_test=10, n_topics=TOPICS, unseen_fraction=0.0, random_state=0
    )
    starts, backward = [[]], UnifiedTask.backward
    per_epoch = -(-N_SAMPLES // BATCH) - 1  # 5 % of the rows are held out for calibration

    def timed(self, batch):
        if len(starts[-1]) == per_epoch + 1:
            starts.append([])
        starts[-1].append(time.process_time())
        return backward(self, batch)

    UnifiedTask.backward = timed
    model = UnifiedXC(
        batch_size=BATCH,
        pool=LabelPool(size=POOL, refresh_every=2, clustered=False),
        n_epochs=EPOCHS,
        label_table=LabelTable(dtype=dtype),
        index="exact",
        random_state=0,
    )
    start = time.process_time()
    model.fit(data.train_texts, data.train_labels, label_features=data.label_texts)
    steps = np.concatenate([np.diff(epoch) for epoch in starts])
    return {
        "n_labels": n_labels,
        "table_dtype": dtype,
        "pool_size": round(model.pool_size_, 1),
        "n_steps": len(steps),
        "step_cpu_ms_median": round(1000 * float(np.median(steps)), 1),
        "step_cpu_ms_quartiles": [
            round(1000 * float(q), 1) for q in np.quantile(steps, [0.25, 0.75])
        ],
        "fit_cpu_s": round(time.process_time() - start, 1),
        "n_refreshes": model.n_refreshes_,
        "peak_rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def draw(lines, path):
    """Draw the time of a step and the peak memory against the number of labels."""
    import matplotlib.pyplot as plt

    sizes = [line["n_labels"] for line in lines]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    left.semilogx(sizes, [line["step_cpu_ms_median"] for line in lines], "o-")
    left.set(xlabel="labels", ylabel="CPU ms per step (median)", ylim=(0, None))
    right.loglog(sizes, [line["peak_rss_gib"] for line in lines], "o-")
    right.axhline(6, color="grey", linestyle=":")
    right.set(xlabel="labels", ylabel="peak memory of the fit, GiB")
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--picture", default="unified_scaling.png")
    parser.add_argument("--one", action="store_true", help="measure one size in this process")
    arguments = parser.parse_args()
    if arguments.one:
        benchmark.write_line(measure(arguments.sizes[0], arguments.dtype))
        return
    lines = []
    for size in arguments.sizes:
        command = [sys.executable, __file__, str(size), "--one", "--dtype", arguments.dtype]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        lines.append(json.loads(answer))
        benchmark.write_line(lines[-1])
    draw(lines, arguments.picture)


if __name__ == "__main__":
    main()
