"""Save an estimator as a folder, and load it."""

from __future__ import annotations

import json
import secrets
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

import skxc
from skxc.exceptions import FormatVersionError
from skxc.persistence._files import flush, write_atomically
from skxc.persistence._flatten import Flattener
from skxc.persistence._layout import FORMAT_VERSION, STRUCTURE, Layout
from skxc.persistence._rebuild import Rebuilder

# What unreadable files and unexpected contents raise.
_DAMAGE = (
    *(SafetensorError, zipfile.BadZipFile, EOFError, RecursionError),
    *(ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError),
)


def save(estimator: BaseEstimator, folder: str | PathLike[str]) -> None:
    """Save an estimator as a folder of JSON, safetensors and npz files, without a pickle.

    A save that is already there is replaced in one step: a process that is stopped at any moment
    leaves the old model or the new one. Callbacks and metadata requests, which matter to `fit`
    only, are not saved.

    Parameters
    ----------
    estimator : estimator of skxc or scikit-learn
        An estimator of skxc must be fitted. Parameters and attributes must be built of None, bool,
        numbers, texts, lists, tuples, dicts, sets, ranges, paths, NumPy arrays, scalars and types,
        sparse matrices, RandomState objects, label-side holders, and estimators of skxc and
        scikit-learn.
    folder : str or path
        Created if missing. If it exists it must be empty or hold a saved model.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If an estimator of skxc is not fitted.
    ValueError
        If a parameter or attribute cannot be saved (its name is in the message), or if the folder
        holds something else. Nothing has been written then.
    """
    if not isinstance(estimator, BaseEstimator):
        raise ValueError(
            f"`estimator` must be an estimator, but is a {type(estimator).__name__}. "
            "Save arrays with safetensors or numpy."
        )
    if hasattr(estimator, "__sklearn_is_fitted__"):
        check_is_fitted(estimator)
    flattener = Flattener()
    root = flattener.flatten(estimator, type(estimator).__name__)
    layout = Layout(Path(folder), secrets.token_hex(4))
    _check_target(layout)
    structure = {
        "format_version": FORMAT_VERSION,
        "skxc_version": skxc.__version__,
        "save_id": layout.save_id,
        "estimator": root,
    }
    text = json.dumps(structure, allow_nan=False)
    layout.folder.mkdir(parents=True, exist_ok=True)
    try:
        _write_dense(layout.arrays, flattener.dense)
        _write_sparse(layout.sparse, flattener.sparse)
        # The moment of the switch: the old model is complete before it, the new one after it.
        write_atomically(layout.structure, lambda path: path.write_text(text, "utf-8"))
    except BaseException:
        _remove([layout.arrays, layout.sparse])
        raise
    _remove(layout.leftovers())


def load(folder: str | PathLike[str]) -> Any:
    """Load what `save` wrote.

    No pickle is opened and no code from the folder is run: only classes of skxc and scikit-learn
    are built, from plain data. (Whoever can change the folder can still change what the model
    answers.)

    Parameters
    ----------
    folder : str or path

    Returns
    -------
    estimator
        As it was saved.

    Raises
    ------
    FileNotFoundError
        If the folder or one of its files is missing.
    skxc.exceptions.FormatVersionError
        If a newer version of skxc saved it, or skxc 0.1.
    ValueError
        If a file is damaged.
    """
    path = Path(folder) / STRUCTURE
    content = _read(path)
    try:
        return _build(Path(folder), _parse(content, path))
    except FileNotFoundError:
        # Another process may have replaced the model meanwhile.
        if _read(path) == content:
            raise
        return load(folder)


def _check_target(layout: Layout) -> None:
    folder = layout.folder
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`folder` must be a folder, but {folder} is a file. Choose another name.")
    if not folder.exists() or layout.structure.exists():
        return
    if not set(folder.iterdir()) <= set(layout.leftovers()):
        raise ValueError(
            f"`folder` must be new, empty or a saved model, but {folder} holds other files. "
            "Choose another folder, such as a new one inside it."
        )


def _write_dense(path: Path, arrays: dict[str, NDArray]) -> None:
    # Not ascontiguousarray, which would turn a scalar into an array of length one.
    native = {
        name: np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
        for name, array in arrays.items()
    }
    save_file(native, path)
    flush(path)


def _write_sparse(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays)
    flush(path)


def _remove(paths: list[Path]) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            # Some systems keep files that a process still has mapped; the next save removes them.
            continue


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"`folder` must hold a saved model, but {path} is missing. "
            "Check the path; `save` writes such folders."
        ) from error


def _parse(content: bytes, path: Path) -> dict[str, Any]:
    try:
        structure = json.loads(content)
        version = int(structure["format_version"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(_damaged(path, error)) from error
    if version != FORMAT_VERSION:
        cure = "Update skxc." if version > FORMAT_VERSION else "Fit and save the model again."
        raise FormatVersionError(
            f"{path} has format version {version} (skxc {structure.get('skxc_version')}), but the "
            f"installed skxc {skxc.__version__} reads version {FORMAT_VERSION}. {cure}"
        )
    return structure


def _build(folder: Path, structure: dict[str, Any]) -> Any:
    path = folder / STRUCTURE
    try:
        layout = Layout(folder, structure["save_id"])
        for path in (layout.arrays, layout.sparse):
            if not path.exists():
                raise FileNotFoundError(
                    f"{path} is missing from the saved model. Copy the whole folder, or save again."
                )
        path = layout.arrays
        dense = load_file(path)
        path = layout.sparse
        with np.load(path, allow_pickle=False) as file:
            sparse = {name: file[name] for name in file.files}
        path = layout.structure
        return Rebuilder(dense, sparse).rebuild(structure["estimator"])
    except FormatVersionError:
        raise
    except _DAMAGE as error:
        raise ValueError(_damaged(path, error)) from error


def _damaged(path: Path, error: Exception) -> str:
    return f"{path} is damaged ({type(error).__name__}: {error}). Copy or save the model again."
