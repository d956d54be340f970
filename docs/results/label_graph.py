"""Where the graph of LabelGraphXC helps: edges, attention, shortlist and hits by label frequency.

    python docs/results/label_graph.py FOLDER [key=value ...]

Prints JSON lines, one with the graph and one without.
"""

from __future__ import annotations

import ast
import json
import sys
from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from skxc import LabelGraphXC, LabelTexts
from skxc.datasets import load_xc_repository
from skxc.graphs import without_diagonal
from skxc.inspection import precision_by_frequency
from skxc.utils._sparse import drop_pairs, normalize_rows, pair_ids, row_ids

BINS = ((1, 1), (2, 4), (5, 19), (20, 10**9))


def by_frequency(model: LabelGraphXC, values: np.ndarray) -> dict[str, list[float]]:
    """Return means of the rows of `values` over labels of similar frequency."""
    found = {}
    for low, high in BINS:
        some = (model.label_frequency_ >= low) & (model.label_frequency_ <= high)
        name = str(low) if low == high else f"{low}-{high}" if high < 10**9 else f"{low}-"
        found[name] = np.round(np.nanmean(values[some], axis=0), 3).tolist()
    return found


def edge_quality(model: LabelGraphXC, y_test: sp.csr_array) -> np.ndarray:
    """Return, per label, the part of its edge weight that test rows confirm; NaN without any."""
    edges = without_diagonal(model.label_graph_)
    together = sp.csr_array(y_test.T @ y_test)
    confirmed = np.isin(pair_ids(edges), pair_ids(together))
    rows, n_labels = row_ids(edges), edges.shape[0]
    weight = np.bincount(rows, edges.data, n_labels)
    part = np.bincount(rows, edges.data * confirmed, n_labels)
    seen = np.bincount(y_test.indices, minlength=n_labels) > 0
    return np.where(seen, part / np.maximum(weight, 1e-12), np.nan)


def shortlists(model: LabelGraphXC, texts: list[str], y: sp.csr_array) -> dict[str, float]:
    """Return the share of test pairs whose label is in the shortlist, with and without GAME."""
    rows = normalize_rows(model.encoder_.prepare(np.array(texts, dtype=object)))
    first, recall = model.estimators_[0], {}
    wanted = sp.csr_array(y[:, model.trained_labels_])
    for name, member in (("game", first), ("plain", replace(first, cluster_graph=None))):
        clusters = model._shortlist(member, rows)
        found = sp.csr_array(clusters @ member.membership)
        hits = np.isin(pair_ids(wanted), pair_ids(found)).sum()
        recall[name] = round(float(hits / y.nnz), 4)
        recall[f"labels_{name}"] = round(found.nnz / found.shape[0], 1)
    return recall


def main(folder: str, options: list[str]) -> None:
    """Fit with and without the graph, and print what was found."""
    data = load_xc_repository(folder)
    params = {key: ast.literal_eval(value) for key, value in (o.split("=") for o in options)}
    labels = LabelTexts(data.label_texts, data.label_names)
    for use_graph in (True, False):
        model = LabelGraphXC(random_state=0, use_graph=use_graph, **params)
        model.fit(data.train_texts, data.train_labels, label_features=labels)
        scores = model.decision_function(data.test_texts)
        if data.test_filter is not None:
            scores = drop_pairs(scores, data.test_filter)
        bins = precision_by_frequency(data.test_labels, scores, model.label_frequency_, k=1)
        hits = np.isin(pair_ids(data.test_labels), pair_ids(scores)).sum()
        record = {
            "folder": folder.rstrip("/").rpartition("/")[2],
            "use_graph": use_graph,
            "fit_shortlist_recall": {k: round(v, 3) for k, v in model.shortlist_recall_.items()},
            "test_shortlist_recall": shortlists(model, data.test_texts, data.test_labels),
            "test_recall_of_scores": round(float(hits / data.test_labels.nnz), 4),
            "attention": by_frequency(model, model.fusion_weights_),
            "p_at_1_by_frequency": dict(
                zip(bins.names, np.round(100 * bins.contribution, 2).tolist(), strict=True)
            ),
        }
        if use_graph:
            quality = edge_quality(model, data.test_labels)
            record["confirmed_edges"] = by_frequency(model, quality[:, None])
        sys.stdout.write(json.dumps(record) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
