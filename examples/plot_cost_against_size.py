"""
Cost against size
=================

How do time and memory of a linear tree grow from a thousand labels to a million? Planted rows of
ten words, two labels per row and two rows per label. Every size runs in a process of its own, so
that its peak memory is known. To keep the run short, ten thousand labels are the most; for the
picture in the documentation, name the powers of ten (a million labels take minutes):

    python plot_cost_against_size.py 3 4 5 6
"""

import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import scipy.sparse as sp

from skxc import LabelTree, LinearTreeXC
from skxc.metrics import precision_at_k

# Labels of one group share the words that they are described by.
GROUP, WORDS_PER_LABEL, NOISE_WORDS, N_TEST = 50, 4, 2, 2000


def planted_rows(n, words, rng):
    """Return (X, y): every row shows the words of two labels, and two words of any."""
    n_labels = n_words = len(words)
    labels = rng.integers(n_labels, size=(n, 2))
    noise = rng.integers(n_words, size=(n, NOISE_WORDS))
    columns = np.hstack([words[labels].reshape(n, -1), noise])
    return indicator(columns, n_words), indicator(labels, n_labels)


def indicator(columns, n_columns):
    """Return a CSR array with a one in the given columns of every row."""
    n, width = columns.shape
    indptr = np.arange(0, n * width + 1, width)
    matrix = sp.csr_array((np.ones(n * width), columns.ravel(), indptr), shape=(n, n_columns))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix.astype(np.float32)


def measure(n_labels):
    """Return costs and quality at one size."""
    rng = np.random.default_rng(0)
    group = np.arange(n_labels)[:, None] // GROUP
    words = group * GROUP + rng.integers(GROUP, size=(n_labels, WORDS_PER_LABEL))
    X, y = planted_rows(2 * n_labels, words % n_labels, rng)
    X_test, y_test = planted_rows(N_TEST, words % n_labels, rng)
    # Loads compiled code.
    warm_up = LinearTreeXC(tree=LabelTree(flat=False), random_state=0).fit(X[:500], y[:500])
    warm_up.predict_topk(X[:2])

    begun = time.process_time()
    model = LinearTreeXC(random_state=0).fit(X, y)
    fitted = time.process_time()
    labels, _ = model.predict_topk(X_test, k=10)
    predicted = time.process_time()
    return {
        "labels": n_labels,
        "fit CPU s": fitted - begun,
        "predict CPU us a row": 1e6 * (predicted - fitted) / N_TEST,
        "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "P@1": 100 * precision_at_k(y_test, labels, 1),
    }


def plot(results):
    """Draw all costs against the number of labels, on logarithmic scales."""
    import matplotlib.pyplot as plt

    names = ["fit CPU s", "predict CPU us a row", "peak MiB"]
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for ax, name in zip(axes, names, strict=True):
        sizes, costs = [[one[key] for one in results] for key in ("labels", name)]
        ax.loglog(sizes, costs, "o-")
        ax.set(xlabel="labels", title=name)
        ax.grid(alpha=0.3)
    figure.savefig("cost_against_size.png", dpi=80)


if __name__ == "__main__":
    sizes = [10 ** int(power) for power in sys.argv[1:] or "34"]
    context, results = multiprocessing.get_context("spawn"), []
    for size in sizes:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            results.append(pool.submit(measure, size).result())
        print(*(f"{name} {value:,.1f}" for name, value in results[-1].items()), sep="   ")
    slope = np.polyfit(*np.log([[one["labels"], one["fit CPU s"]] for one in results]).T, 1)[0]
    print(f"The time of fit grows as the number of labels to the power {slope:.2f}.")
    plot(results)
