"""A data set as a folder of ``.npz`` matrices and ``.txt.gz`` lines: the form that loses nothing.

========================================== =======================================================
file                                       content
========================================== =======================================================
``{train,test,label}_texts.txt.gz``        one text per line
``{train,test,label}_ids.txt.gz``          names of samples and labels, one per line
``feature_names.txt.gz``                   names of the feature columns
``{train,test}_labels.npz``                CSR, samples x labels
``{train,test,label}_features.npz``        CSR, samples or labels x features
``{train,test}_filter.npz``                CSR, samples x labels
``graphs/label_graph_NAME.npz``            CSR, labels x labels
``graphs/sample_anchors_NAME.npz``         CSR, training samples x nodes
``graphs/label_anchors_NAME.npz``          CSR, labels x nodes (not always)
``graphs/anchor_texts_NAME.txt.gz``        one text per node
========================================== =======================================================

Only ``train_labels.npz`` must be there.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from skxc.datasets._dataset import Anchors, XCDataset
from skxc.datasets._lines import read_lines, write_lines

LABELS = ("train_labels", "test_labels")
FILTERS = ("train_filter", "test_filter")
FEATURES = ("train_features", "test_features", "label_features")
TEXTS = ("train_texts", "test_texts", "label_texts")
NAMES = {
    "train_ids": "train_ids",
    "test_ids": "test_ids",
    "label_names": "label_ids",
    "feature_names": "feature_names",
}
_LINE_FIELDS = {**{name: name for name in TEXTS}, **NAMES}


def read_npz_folder(folder: Path, encoding: str = "utf-8") -> XCDataset:
    """Read the folder described at the top."""
    fields: dict = {"graphs": dict(_read_label_graphs(folder / "graphs"))}
    fields["anchors"] = dict(_read_anchors(folder / "graphs", encoding))
    for name in (*LABELS, *FILTERS):
        fields[name] = read_indicator(folder / f"{name}.npz")
    for name in FEATURES:
        fields[name] = read_matrix(folder / f"{name}.npz")
    for name, stem in _LINE_FIELDS.items():
        fields[name] = _optional_lines(folder / f"{stem}.txt.gz", encoding)
    return XCDataset(**fields)


def write_npz_folder(dataset: XCDataset, folder: Path) -> set[str]:
    """Write the folder described at the top; return the names of the fields it can hold."""
    for name in (*LABELS, *FILTERS, *FEATURES):
        if (matrix := getattr(dataset, name)) is not None:
            sp.save_npz(folder / f"{name}.npz", matrix)
    for name, stem in _LINE_FIELDS.items():
        if (lines := getattr(dataset, name)) is not None:
            write_lines(folder / f"{stem}.txt.gz", lines)
    graphs = folder / "graphs"
    if dataset.graphs or dataset.anchors:
        graphs.mkdir()
    for name, graph in dataset.graphs.items():
        sp.save_npz(graphs / f"label_graph_{name}.npz", graph)
    for name, nodes in dataset.anchors.items():
        sp.save_npz(graphs / f"sample_anchors_{name}.npz", nodes.sample_anchors)
        if nodes.label_anchors is not None:
            sp.save_npz(graphs / f"label_anchors_{name}.npz", nodes.label_anchors)
        if nodes.texts is not None:
            write_lines(graphs / f"anchor_texts_{name}.txt.gz", nodes.texts)
    return {*LABELS, *FILTERS, *FEATURES, *_LINE_FIELDS, "graphs", "anchors"}


def read_matrix(path: Path) -> sp.csr_array | None:
    """Return the CSR matrix of an ``.npz`` file as float32, or None if there is no such file.

    Raises
    ------
    ValueError
        If the file holds no sparse matrix, or one with indices out of range.
    """
    if not path.exists():
        return None
    try:
        matrix = sp.csr_array(sp.load_npz(path)).astype(np.float32)
        matrix.check_format(full_check=True)
        matrix.sum_duplicates()
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: no readable sparse matrix ({error}). Write it with scipy.sparse.save_npz."
        ) from error
    return matrix


def read_indicator(path: Path) -> sp.csr_array | None:
    """Return the matrix of an ``.npz`` file as float32 ones, or None if there is no such file."""
    matrix = read_matrix(path)
    return None if matrix is None else indicator(matrix, path)


def indicator(matrix: sp.csr_array, path: Path) -> sp.csr_array:
    """Return relevances as float32 ones: zeros dropped, positive values set to 1.

    Raises
    ------
    ValueError
        If a value is negative or not finite.
    """
    bad = ~(np.isfinite(matrix.data) & (matrix.data >= 0))
    if bad.any():
        raise ValueError(
            f"{path}: {np.count_nonzero(bad)} values are negative or not finite, for example "
            f"{matrix.data[bad][0]:g}, but a label matrix holds relevances. Check the file."
        )
    matrix.eliminate_zeros()
    matrix.data[:] = 1
    return matrix


def _optional_lines(path: Path, encoding: str) -> list[str] | None:
    return read_lines(path, encoding) if path.exists() else None


def _read_label_graphs(folder: Path) -> Iterator[tuple[str, sp.csr_array | None]]:
    for path in sorted(folder.glob("label_graph_*.npz")):
        yield path.stem.removeprefix("label_graph_"), read_matrix(path)


def _read_anchors(folder: Path, encoding: str) -> Iterator[tuple[str, Anchors]]:
    for path in sorted(folder.glob("sample_anchors_*.npz")):
        name = path.stem.removeprefix("sample_anchors_")
        texts = _optional_lines(folder / f"anchor_texts_{name}.txt.gz", encoding)
        samples = read_matrix(path)
        if samples is not None:
            yield name, Anchors(samples, read_matrix(folder / f"label_anchors_{name}.npz"), texts)
