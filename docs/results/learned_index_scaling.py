"""Time of a prediction against the number of labels: learned index and one-vs-all.

    python docs/results/learned_index_scaling.py [largest number of labels]

Planted labels: every cluster has a centre, a label is near the centre of its cluster, and a query
near a label. The index has the sizes that LearnedIndexXC takes for so many labels, with all edges
in use; training would change its numbers, not its cost. Both sides return the best 100 labels for
the same vectors. Writes learned_index_scaling.jsonl and .png beside this file.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from skxc import benchmark
from skxc.indices import LabelIndex, index_sizes
from skxc.utils._sparse import top_k

HERE = Path(__file__).parent
DIM, TOP, BLOCK, N_QUERIES = 128, 100, 32, 96


def plant(n_labels: int, rng: np.random.Generator) -> tuple[LabelIndex, np.ndarray, np.ndarray]:
    """Return an index, label vectors and queries."""
    sizes = index_sizes(n_labels, 10)
    n, kappa = sizes.n_clusters, sizes.edges_per_cluster
    centres = rng.standard_normal((n, DIM), dtype=np.float32)
    cluster = np.arange(n_labels) * n // n_labels
    labels = centres[cluster] + rng.standard_normal((n_labels, DIM), dtype=np.float32)
    labels /= np.linalg.norm(labels, axis=1, keepdims=True)
    # A cluster holds its own labels and those that follow.
    first = np.searchsorted(cluster, np.arange(n))
    edges = (first[:, None] + np.arange(kappa)) % n_labels
    weights = np.where(cluster[edges] == np.arange(n)[:, None], 0.9, 0.1).astype(np.float32)
    index = LabelIndex(
        cluster_weights=centres,
        cluster_bias=np.zeros(n, dtype=np.float32),
        edge_labels=edges.astype(np.int32),
        edge_weights=weights,
        n_labels=n_labels,
        gain=sizes.alpha,
        beam_width=sizes.beam_width,
        shortlist_size=sizes.shortlist_size,
    )
    drawn = labels[rng.integers(n_labels, size=N_QUERIES)]
    queries = drawn + 0.02 * rng.standard_normal(drawn.shape, dtype=np.float32)
    return index, labels * np.float32(10), queries


def cpu_per_query(answer, queries: np.ndarray) -> float:
    """Return CPU microseconds per query, the best of three rounds."""
    answer(queries[:BLOCK])
    rounds = []
    for _ in range(3):
        start = time.process_time()
        for at in range(0, len(queries), BLOCK):
            answer(queries[at : at + BLOCK])
        rounds.append((time.process_time() - start) / len(queries) * 1e6)
    return min(rounds)


def main(largest: int) -> None:
    """Measure, write the figures, draw them."""
    sizes = [n for n in (10**3, 10**4, 10**5, 3 * 10**5, 10**6) if n <= largest]
    records, path = [], HERE / "learned_index_scaling.jsonl"
    path.unlink(missing_ok=True)
    for n_labels in sizes:
        index, labels, queries = plant(n_labels, np.random.default_rng(0))
        bias = np.zeros(n_labels, dtype=np.float32)
        record = {
            "n_labels": n_labels,
            "learned_index_us": cpu_per_query(
                lambda rows, i=index, w=labels, b=bias: i.rank(rows, w, b, TOP), queries
            ),
            "one_vs_all_us": cpu_per_query(lambda rows, w=labels: top_k(rows @ w.T, TOP), queries),
        }
        found, _ = index.rank(queries, labels, bias, TOP)
        exact, _ = top_k(queries @ labels.T, 1)
        record["best_label_found"] = float((found == exact).any(axis=1).mean())
        records.append(record)
        benchmark.write_line(record, path)
    figure, ax = plt.subplots(figsize=(4.5, 3.2))
    for key, name in [("one_vs_all_us", "one-vs-all"), ("learned_index_us", "learned index")]:
        ax.loglog(sizes, [record[key] for record in records], marker="o", label=name)
    ax.set(xlabel="labels", ylabel="CPU µs per query")
    ax.legend()
    figure.tight_layout()
    figure.savefig(HERE / "learned_index_scaling.png", dpi=70)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10**6)
