"""Folders in the formats of the field to `XCDataset`, and back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import scipy.sparse as sp

from skxc.datasets._dataset import XCDataset
from skxc.datasets._json_lines import Records, read_json_lines, write_json_lines
from skxc.datasets._lines import read_lines, write_lines
from skxc.datasets._npz_folder import (
    FEATURES,
    FILTERS,
    LABELS,
    TEXTS,
    indicator,
    is_part,
    read_matrix,
    read_npz_folder,
    write_npz_folder,
)
from skxc.datasets._sparse_text import (
    read_bow_text,
    read_filter_text,
    read_sparse_text,
    write_bow_text,
    write_filter_text,
    write_sparse_text,
)

Format = Literal["npz", "text", "json", "bow"]

# Names under which the parts of a set are found, the name that is written first.
_FILES: dict[str, tuple[str, ...]] = {
    "folder": ("train_labels.npz",),
    "train_labels": ("trn_X_Y.txt", "trn_X_Y.npz", "Y.trn.npz"),
    "test_labels": ("tst_X_Y.txt", "tst_X_Y.npz", "Y.tst.npz"),
    "train_features": ("trn_X_Xf.txt", "trn_X_Xf.npz", "X.trn.npz"),
    "test_features": ("tst_X_Xf.txt", "tst_X_Xf.npz", "X.tst.npz"),
    "label_features": ("lbl_X_Xf.txt", "lbl_X_Xf.npz"),
    "train_texts": ("trn_X.txt", "X.trn.txt"),
    "test_texts": ("tst_X.txt", "X.tst.txt"),
    "label_texts": ("Y.txt",),
    "train_filter": ("filter_labels_train.txt",),
    "test_filter": ("filter_labels_test.txt",),
    "train_bow": ("train.txt", "*_train.txt"),
    "test_bow": ("test.txt", "*_test.txt"),
    "train_json": ("trn.json.gz", "trn.json"),
    "test_json": ("tst.json.gz", "tst.json"),
    "label_json": ("lbl.json.gz", "lbl.json"),
}
# `*_train.txt` must not take these for a bag of words.
_NO_BOW = "filter_labels_"
_PLACES = (".", "raw", "raw_data", "raw_text")


def load_xc_repository(
    folder: str | Path, *, format: Literal["auto"] | Format = "auto", encoding: str = "utf-8"
) -> XCDataset:
    """Load a data set from a folder in one of the formats of the field.

    Parameters
    ----------
    folder : str or Path
        Text files may be packed (``.gz``); texts, filters and JSON may also lie in a subfolder
        ``raw``, ``raw_data`` or ``raw_text``. Every file except the first named is optional.
    format : {"auto", "npz", "text", "json", "bow"}, default="auto"
        "npz"
            ``train_labels.npz``, and the files that `save_xc_repository` writes.
        "text"
            ``trn_X_Y.txt`` (header ``n L``, then ``label:1 ...`` per line; or ``.npz``, or
            ``Y.trn.npz``), ``tst_X_Y.txt``, the features ``trn_X_Xf.txt``, ``tst_X_Xf.txt``,
            ``lbl_X_Xf.txt``, and one text per line in ``trn_X.txt``, ``tst_X.txt``, ``Y.txt``.
        "json"
            ``trn.json``, ``tst.json``, ``lbl.json``, with ``uid``, ``title``, ``content``,
            ``target_ind``, ``target_rel``. Without ``lbl.json`` the number of labels is the
            highest label number plus one.
        "bow"
            ``train.txt`` and ``test.txt`` (or ``NAME_train.txt``): header ``n d L``, then
            ``label,label feature:value ...`` per line; texts as under "text".
        "auto"
            The first of these whose first file is there.

        All but "npz" also read ``filter_labels_train.txt`` and ``filter_labels_test.txt``: lines
        ``sample label``.
    encoding : str, default="utf-8"
        Encoding of the texts; some older sets need "latin-1".

    Returns
    -------
    XCDataset
        Label and filter matrices hold float32 ones, features are float32, columns are sorted.

    Raises
    ------
    ValueError
        If no format fits, with the names that were looked for; if a file is malformed, with file,
        line number and reason; if files contradict each other.

    Warns
    -----
    UserWarning
        If the folder holds other files of lines or matrices, such as ``Yf.txt``: they are not read.

    References
    ----------
    Bhatia et al., "The extreme classification repository: Multi-label datasets and code", 2016.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder. Pass the folder that holds the files of one set.")
    wanted = FORMATS if format == "auto" else {format: _checked(format)}
    for one in wanted.values():
        if _find(folder, one.mark) is not None:
            data = one.read(folder, encoding)
            _warn_of_unread(folder)
            return data
    marks = ", ".join(f"{_FILES[one.mark][0]} (format {name!r})" for name, one in wanted.items())
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
    raise ValueError(f"{folder} must hold {marks}, but holds {there}. Check the folder's name.")


def save_xc_repository(dataset: XCDataset, folder: str | Path, *, format: Format = "npz") -> None:
    """Write a data set as a folder that `load_xc_repository` reads back.

    Parameters
    ----------
    dataset : XCDataset
        What to write.
    folder : str or Path
        Made if missing; must be empty, as a left-over file would be read as a part of the set.
    format : {"npz", "text", "json", "bow"}, default="npz"
        As in `load_xc_repository`. Only "npz" keeps graphs, anchors and all names.

    Raises
    ------
    ValueError
        If the folder is not empty, the set lacks what the format is made of, or a text contains a
        line break (only "json" can hold it).

    Warns
    -----
    UserWarning
        If the format has no place for some fields of the set.
    """
    wanted = _checked(format)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(
            f"{folder} is not empty, and files left there would be read as parts of the set. "
            "Pass a new folder."
        )
    wanted.write(dataset, folder)
    lost = [
        name
        for name, value in vars(dataset).items()
        if _is_given(value) and name not in wanted.fields
    ]
    if lost:
        warnings.warn(
            f"The {format!r} format has no place for {', '.join(lost)}: not written. "
            "Use format='npz' to keep them.",
            stacklevel=2,
        )


# ---------------------------------------------------------------- finding
def _find(folder: Path, part: str) -> Path | None:
    """Return the file of one part of the set, or None."""
    places = (".",) if part == "folder" else _PLACES
    for place in places:
        for name in _FILES[part]:
            for pattern in (name, f"{name}.gz"):
                for path in sorted((folder / place).glob(pattern)):
                    if not (part.endswith("bow") and path.name.startswith(_NO_BOW)):
                        return path
    return None


def _warn_of_unread(folder: Path) -> None:
    """Name the files that look like parts of the set, but that no format knows."""
    known = {_find(folder, part) for part in _FILES}
    unread = [
        str(path.relative_to(folder))
        for place in (*_PLACES, "graphs")
        for path in sorted((folder / place).glob("*"))
        if path.suffix in (".txt", ".npz", ".json", ".gz")
        and not (path in known or is_part(path.name))
    ]
    if unread:
        warnings.warn(
            f"{folder} holds files that were not read: {', '.join(unread[:10])}. Rename those that "
            "belong to the set; `load_xc_repository` lists the names.",
            stacklevel=3,
        )


def _is_given(value: Any) -> bool:
    return value is not None and (sp.issparse(value) or len(value) > 0)


# ---------------------------------------------------------------- reading
def _read_text(folder: Path, encoding: str) -> XCDataset:
    fields = {name: _read_any(folder, name) for name in (*LABELS, *FEATURES)}
    return _complete(folder, encoding, fields)


def _read_bow(folder: Path, encoding: str) -> XCDataset:
    fields: dict[str, Any] = {"label_features": _read_any(folder, "label_features")}
    for side in ("train", "test"):
        if path := _find(folder, f"{side}_bow"):
            fields[f"{side}_features"], fields[f"{side}_labels"] = read_bow_text(path)
    return _complete(folder, encoding, fields)


def _read_json(folder: Path, encoding: str) -> XCDataset:
    fields: dict[str, Any] = {}
    sides: dict[str, Records] = {}
    for side in ("train", "test", "label"):
        if path := _find(folder, f"{side}_json"):
            records = read_json_lines(path, with_targets=side != "label", encoding=encoding)
            fields[f"{side}_texts"] = records.texts
            fields["label_names" if side == "label" else f"{side}_ids"] = records.ids
            sides[side] = records
    labels = sides.pop("label", None)
    n_labels = len(labels.texts) if labels else max(side.n_targets() for side in sides.values())
    for side, records in sides.items():
        fields[f"{side}_labels"] = records.labels(n_labels)
    return _complete(folder, encoding, fields)


def _read_any(folder: Path, part: str) -> sp.csr_array | None:
    """Read the matrix of one part of the set, text or npz, or None."""
    path = _find(folder, part)
    if path is None:
        return None
    matrix = read_matrix(path) if path.suffix == ".npz" else read_sparse_text(path)
    return indicator(matrix, path) if part in LABELS else matrix


def _complete(folder: Path, encoding: str, fields: dict[str, Any]) -> XCDataset:
    """Add texts and filters, where there are files for them and none were read yet."""
    for side in ("train", "test", "label"):
        if f"{side}_texts" not in fields and (path := _find(folder, f"{side}_texts")):
            fields[f"{side}_texts"] = read_lines(path, encoding)
    for side in ("train", "test"):
        path, labels = _find(folder, f"{side}_filter"), fields.get(f"{side}_labels")
        if path is not None and labels is not None:
            fields[f"{side}_filter"] = read_filter_text(path, labels.shape)
    return XCDataset(**fields)


# ---------------------------------------------------------------- writing
def _write_text(dataset: XCDataset, folder: Path) -> None:
    _write(dataset, folder, (*LABELS, *FEATURES), write_sparse_text)
    _write(dataset, folder, TEXTS, write_lines)
    _write(dataset, folder, FILTERS, write_filter_text)


def _write_bow(dataset: XCDataset, folder: Path) -> None:
    for side, labels in _sides(dataset):
        features = _needed(dataset, f"{side}_features", "bow")
        write_bow_text(folder / _FILES[f"{side}_bow"][0], features, labels)
    _write(dataset, folder, ("label_features",), write_sparse_text)
    _write(dataset, folder, TEXTS, write_lines)
    _write(dataset, folder, FILTERS, write_filter_text)


def _write_json(dataset: XCDataset, folder: Path) -> None:
    for side, labels in (*_sides(dataset), ("label", None)):
        texts = _needed(dataset, f"{side}_texts", "json")
        names = getattr(dataset, "label_names" if side == "label" else f"{side}_ids")
        write_json_lines(folder / _FILES[f"{side}_json"][0], texts, names, labels)
    _write(dataset, folder, FILTERS, write_filter_text)


def _write(
    dataset: XCDataset, folder: Path, names: Iterable[str], write: Callable[[Path, Any], None]
) -> None:
    """Write those of some fields that the set has, each to its file."""
    for name in names:
        if (value := getattr(dataset, name)) is not None:
            write(folder / _FILES[name][0], value)


def _sides(dataset: XCDataset) -> list[tuple[str, sp.csr_array]]:
    sides = [("train", dataset.train_labels), ("test", dataset.test_labels)]
    return [(side, labels) for side, labels in sides if labels is not None]


def _needed(dataset: XCDataset, field: str, format: str) -> Any:
    if (value := getattr(dataset, field)) is None:
        raise ValueError(
            f"The dataset has no `{field}`, but the {format!r} format is made of them. "
            "Add them, or use format='npz'."
        )
    return value


# ---------------------------------------------------------------- formats
class _Format(NamedTuple):
    """How to tell, read and write a format, and what it has a place for."""

    mark: str
    read: Callable[[Path, str], XCDataset]
    write: Callable[[XCDataset, Path], None]
    fields: set[str]


_MATRICES = {*LABELS, *FEATURES, *TEXTS, *FILTERS}
_RECORDS = {*LABELS, *TEXTS, *FILTERS, "train_ids", "test_ids", "label_names"}
_ALL = set(XCDataset.__dataclass_fields__)
# In the order in which "auto" looks for them.
FORMATS = {
    "npz": _Format("folder", read_npz_folder, write_npz_folder, _ALL),
    "text": _Format("train_labels", _read_text, _write_text, _MATRICES),
    "json": _Format("train_json", _read_json, _write_json, _RECORDS),
    "bow": _Format("train_bow", _read_bow, _write_bow, _MATRICES),
}


def _checked(format: str) -> _Format:
    if format not in FORMATS:
        raise ValueError(f"`format` must be one of {list(FORMATS)}, but is {format!r}.")
    return FORMATS[format]
