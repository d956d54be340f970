"""Metrics by plain loops over rows, ranks and labels; nothing shared with the package."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp


def ranked_lists(scores, filtered=None):
    """Rank the stored entries of every row: [[(label, score), ...], ...], best first."""
    scores = sp.csr_array(scores)
    lists = []
    for i in range(scores.shape[0]):
        row = slice(scores.indptr[i], scores.indptr[i + 1])
        pairs = list(zip(scores.indices[row].tolist(), scores.data[row].tolist(), strict=True))
        if filtered is not None:
            stored = set(zip(*sp.coo_array(filtered).coords, strict=True))
            pairs = [(label, score) for label, score in pairs if (i, label) not in stored]
        lists.append(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))
    return lists


def naive(name, truth, lists, k, weights=None, drop_empty_rows=False, ratio_of="row_means"):
    """Return one metric of ranked lists against a dense 0/1 truth."""
    truth = np.asarray(truth)
    rows = []
    for i, ranked in enumerate(lists):
        labels = {label for label in range(truth.shape[1]) if truth[i, label] == 1}
        if labels or not drop_empty_rows:
            rows.append((labels, ranked[:k]))
    if name in ("precision", "recall", "ndcg"):
        values = [per_row(name, labels, ranked, k) for labels, ranked in rows]
        return sum(values) / len(values) if values else 0.0
    if name in ("psp", "psndcg"):
        return propensity_scored(name, rows, k, weights, ratio_of)
    if name == "coverage":
        found = {label for labels, ranked in rows for label, _ in ranked if label in labels}
        occurring = {label for labels, _ in rows for label in labels}
        return len(found) / len(occurring) if occurring else 0.0
    if name == "macro_f1":
        return sum(f1(rows, label) for label in range(truth.shape[1])) / truth.shape[1]
    raise KeyError(name)


def per_row(name, labels, ranked, k):
    if not labels:
        return 0.0
    hits = [label in labels for label, _ in ranked]
    if name == "precision":
        return sum(hits) / k
    if name == "recall":
        return sum(hits) / len(labels)
    gain = sum(1 / math.log2(j + 2) for j, hit in enumerate(hits) if hit)
    return gain / sum(1 / math.log2(j + 2) for j in range(min(k, len(labels))))


def propensity_scored(name, rows, k, weights, ratio_of):
    achieved = best = 0.0
    for labels, ranked in rows:
        if not labels:
            continue
        top = sorted((weights[label] for label in labels), reverse=True)[:k]
        norm = 1.0
        if name == "psndcg" and ratio_of == "row_means":
            norm = sum(1 / math.log2(j + 2) for j in range(min(k, len(labels))))
        for j, (label, _) in enumerate(ranked):
            discount = 1 / math.log2(j + 2) if name == "psndcg" else 1.0
            achieved += weights[label] * discount / norm if label in labels else 0.0
        for j, weight in enumerate(top):
            best += weight * (1 / math.log2(j + 2) if name == "psndcg" else 1.0) / norm
    return achieved / best if best else 0.0


def f1(rows, label):
    right = wrong = missed = 0
    for labels, ranked in rows:
        predicted = label in [other for other, _ in ranked]
        right += predicted and label in labels
        wrong += predicted and label not in labels
        missed += not predicted and label in labels
    return 2 * right / (2 * right + wrong + missed) if right + wrong + missed else 0.0


def naive_ece(truth, lists, k, n_bins=15):
    bins = [[] for _ in range(n_bins)]
    for i, ranked in enumerate(lists):
        for label, proba in ranked[:k]:
            bins[min(int(proba * n_bins), n_bins - 1)].append((truth[i, label] == 1, proba))
    total = sum(len(entries) for entries in bins)
    error = 0.0
    for entries in bins:
        if entries:
            accuracy = sum(hit for hit, _ in entries) / len(entries)
            confidence = sum(proba for _, proba in entries) / len(entries)
            error += len(entries) / total * abs(accuracy - confidence)
    return error


def random_case(seed, n_labels=None):
    """Return random (truth dense, scores CSR, filter CSR): ties, zeros, short and empty rows."""
    rng = np.random.default_rng(seed)
    n_labels = n_labels or int(rng.integers(1, 12))
    n = int(rng.integers(1, 10))
    truth = (rng.random((n, n_labels)) < rng.choice([0.1, 0.3, 0.9])).astype(int)
    truth[rng.integers(n), rng.integers(n_labels)] = 1
    stored = rng.random((n, n_labels)) < rng.choice([0.3, 0.8, 1.0])
    rows, columns = np.nonzero(stored)
    values = rng.integers(-2, 3, size=rows.size) / rng.choice([1, 7])
    scores = coo_to_csr(rows, columns, values, truth.shape)
    rows, columns = np.nonzero((rng.random(truth.shape) < 0.2) & (truth == 0))
    filtered = coo_to_csr(rows, columns, np.zeros(rows.size), truth.shape)
    return truth, scores, filtered


def coo_to_csr(rows, columns, values, shape):
    """CSR with explicit zeros, which scipy's conversion from coordinates keeps."""
    return sp.csr_array(sp.coo_array((values, (rows, columns)), shape=shape))
