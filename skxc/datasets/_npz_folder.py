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

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from skxc.datasets._dataset import Anchors, XCDataset
from skxc.datasets._lines import LARGEST_SIZE, read_lines, write_lines
from skxc.utils._validation import checked_sparse

LABELS = ("train_labels", "test_labels")
FILTERS = ("train_filter", "test_filter")
FEATURES = ("train_features", "test_features", "label_features")
TEXTS = ("train_texts", "test_texts", "label_texts")
# Fields of lines, and the names of their files.
_LINE_FIELDS = {name: name for name in (*TEXTS, "train_ids", "test_ids", "feature_names")}
_LINE_FIELDS["label_names"] = "label_ids"


def read_npz_folder(folder: Path, encoding: str = "utf-8") -> XCDataset:
    """Read the folder described at the top."""
    graphs = folder / "graphs"

    def matrix(path: Path) -> sp.csr_array | None:
        return read_matrix(path) if path.exists() else None

    def ones(path: Path) -> sp.csr_array | None:
        return indicator(read_matrix(path), path) if path.exists() else None

    def lines(path: Path) -> list[str] | None:
        return read_lines(path, encoding) if path.exists() else None

    fields: dict = {name: ones(folder / f"{name}.npz") for name in (*LABELS, *FILTERS)}
    fields |= {name: matrix(folder / f"{name}.npz") for name in FEATURES}
    fields |= {name: lines(folder / f"{stem}.txt.gz") for name, stem in _LINE_FIELDS.items()}
    fields["graphs"] = {name: read_matrix(path) for name, path in _by_name(graphs, "label_graph_")}
    fields["anchors"] = {
        name: Anchors(
            read_matrix(path),
            matrix(graphs / f"label_anchors_{name}.npz"),
            lines(graphs / f"anchor_texts_{name}.txt.gz"),
        )
        for name, path in _by_name(graphs, "sample_anchors_")
    }
    return XCDataset(**fields)


def is_part(name: str) -> bool:
    """Return whether a file of that name is read."""
    matrices = {f"{stem}.npz" for stem in (*LABELS, *FILTERS, *FEATURES)}
    lines = {f"{stem}.txt.gz" for stem in _LINE_FIELDS.values()}
    graphs = ("label_graph_", "sample_anchors_", "label_anchors_", "anchor_texts_")
    return name in matrices | lines or name.startswith(graphs)


def write_npz_folder(dataset: XCDataset, folder: Path) -> None:
    """Write the folder described at the top."""
    matrices = {name: name for name in (*LABELS, *FILTERS, *FEATURES)}
    for name, stem in (matrices | _LINE_FIELDS).items():
        _put(folder / stem, getattr(dataset, name))
    graphs = folder / "graphs"
    if dataset.graphs or dataset.anchors:
        graphs.mkdir()
    for name, graph in dataset.graphs.items():
        _put(graphs / f"label_graph_{name}", graph)
    for name, nodes in dataset.anchors.items():
        _put(graphs / f"sample_anchors_{name}", nodes.sample_anchors)
        _put(graphs / f"label_anchors_{name}", nodes.label_anchors)
        _put(graphs / f"anchor_texts_{name}", nodes.texts)


def _put(path: Path, value: sp.csr_array | list[str] | None) -> None:
    """Write a matrix or lines, if there are any, to a path without its suffix."""
    if sp.issparse(value):
        sp.save_npz(path.with_name(f"{path.name}.npz"), value)
    elif value is not None:
        write_lines(path.with_name(f"{path.name}.txt.gz"), value)


def read_matrix(path: Path) -> sp.csr_array:
    """Return the CSR matrix of an ``.npz`` file as float32.

    Raises
    ------
    ValueError
        If the file holds no sparse matrix, or one with indices out of range.
    """
    try:
        loaded = sp.load_npz(path)
        if max(loaded.shape) > LARGEST_SIZE:
            raise ValueError(f"it announces {max(loaded.shape)} rows or columns")
        matrix = sp.csr_array(checked_sparse(loaded, "matrix")).astype(np.float32)
        matrix.sum_duplicates()
        if not np.isfinite(matrix.data).all():
            raise ValueError("it holds NaN or infinity")
    except FileNotFoundError:
        raise
    # Damaged archives raise whatever the code that unpacks them stumbles over.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"{path}: no readable sparse matrix ({reason}). Write it with scipy.sparse.save_npz."
        ) from error
    return matrix


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


def _by_name(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.glob(f"{prefix}*.npz")):
        yield path.stem.removeprefix(prefix), path
