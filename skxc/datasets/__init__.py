"""Data sets: readers and writers of the field's formats, a bundled real set, planted data."""

from __future__ import annotations

from skxc.datasets._dataset import Anchors, XCDataset
from skxc.datasets._debian import load_debian_related
from skxc.datasets._hold_out import hold_out
from skxc.datasets._io import load_xc_repository, save_xc_repository
from skxc.datasets._names import labels_from_names, names_from_labels
from skxc.datasets._planted import PlantedXC, bayes_scores, make_planted_xc
from skxc.datasets._sparse_text import (
    read_bow_text,
    read_filter_text,
    read_sparse_text,
    write_bow_text,
    write_filter_text,
    write_sparse_text,
)

__all__ = [
    "Anchors",
    "PlantedXC",
    "XCDataset",
    "bayes_scores",
    "hold_out",
    "labels_from_names",
    "load_debian_related",
    "load_xc_repository",
    "make_planted_xc",
    "names_from_labels",
    "read_bow_text",
    "read_filter_text",
    "read_sparse_text",
    "save_xc_repository",
    "write_bow_text",
    "write_filter_text",
    "write_sparse_text",
]
