"""Save an estimator as a folder, and load it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

import skxc
from skxc.exceptions import FormatVersionError
from skxc.persistence._files import (
    check_regular,
    claimed,
    flush,
    map_arrays,
    remove,
    remove_abandoned,
    write_arrays,
    write_atomically,
)
from skxc.persistence._flatten import Flattener
from skxc.persistence._layout import FORMAT_VERSION, STRUCTURE, Layout
from skxc.persistence._rebuild import Rebuilder
from skxc.persistence._rounding import Stored

STORED, KEPT_FOR = get_args(Stored), ("training", "prediction")

# What unreadable files and unexpected contents raise.
_DAMAGE = (
    *(SafetensorError, EOFError, RuntimeError, MemoryError, AssertionError),
    *(ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError),
)


def save(
    estimator: BaseEstimator,
    folder: str | PathLike[str],
    *,
    dtype: Stored = "float32",
    keep_for: Literal["prediction", "training"] = "training",
) -> None:
    """Save an estimator as a folder of a JSON and a safetensors file, without a pickle.

    A save that is already there is replaced in one step: a process that is stopped at any moment
    leaves the old model or the new one. Of several processes that save to one folder, the last one
    to finish wins, and a process that loads meanwhile gets a whole model. Callbacks and metadata
    requests, which matter to `fit` only, are not saved.

    Parameters
    ----------
    estimator : estimator of skxc or scikit-learn
        An estimator of skxc must be fitted. Parameters and attributes must be built of None, bool,
        numbers, texts, lists, tuples, dicts, sets, ranges, paths, NumPy arrays, scalars and types,
        sparse matrices, RandomState objects, label-side holders, and estimators of skxc and
        scikit-learn.
    folder : str or path
        Created if missing. If it exists it must be empty or hold a saved model.
    dtype : {"float32", "float16", "int8"}, default="float32"
        How vectors of labels and samples, and tables of words, are stored. "int8" has a step for
        every row, and takes a quarter of their space. They are float32 again in the loaded model,
        whose answers differ by the rounding.
    keep_for : {"training", "prediction"}, default="training"
        "prediction" leaves out what no answer needs: vectors of label texts where classifiers
        score, and the rows that calibrate anew when parameters change.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If an estimator of skxc is not fitted.
    ValueError
        If a parameter or attribute cannot be saved (its name is in the message), or if the folder
        holds something else. Nothing has been written then.
    OSError
        If the folder cannot be written to, or the disk is full. The old model is still there.
    """
    if not isinstance(estimator, BaseEstimator):
        raise ValueError(
            f"`estimator` must be an estimator, but is a {type(estimator).__name__}. "
            "Save arrays with safetensors or numpy."
        )
    if hasattr(estimator, "__sklearn_is_fitted__"):
        check_is_fitted(estimator)
    for name, value, known in (("dtype", dtype, STORED), ("keep_for", keep_for, KEPT_FOR)):
        if value not in known:
            raise ValueError(f"`{name}` must be one of {list(known)}, but is {value!r}.")
    flattener = Flattener(dtype, all_parts=keep_for == "training")
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
    replaced = _named(layout.folder)
    try:
        # Held until the switch: before it, nothing else tells that these files are needed.
        with claimed(layout.arrays):
            write_arrays(layout.arrays, flattener.arrays)
            flush(layout.arrays)
            # The moment of the switch: the old model is complete before it, the new one after it.
            write_atomically(layout.structure, lambda path: path.write_text(text, "utf-8"))
    except BaseException:
        if layout.arrays not in _named(layout.folder):
            remove([layout.arrays])
        raise
    remove(path for path in replaced if path not in _named(layout.folder))
    remove_abandoned(layout.leftovers(), lambda: _named(layout.folder))


def load(folder: str | PathLike[str], *, mmap: bool = False) -> Any:
    """Load what `save` wrote.

    No pickle is opened and no code from the folder is run: only classes of skxc and scikit-learn
    are built, from plain data. Every array is checked against what the model says of it. (Whoever
    can change the folder can still change what the model answers.)

    Parameters
    ----------
    folder : str or path
    mmap : bool, default=False
        Whether arrays stay in the file and are read when they are needed, so that processes share
        them. The file must not change as long as the model lives. What was saved with fewer bits
        than float32 is read in any case.

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
    path, content = Path(folder) / STRUCTURE, None
    while True:
        before, content = content, _read(path)
        try:
            return _build(Path(folder), _parse(content, path), mmap)
        except FileNotFoundError:
            # Another process may have replaced the model meanwhile.
            if content == before:
                raise


def _check_target(layout: Layout) -> None:
    folder = layout.folder
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`folder` must be a folder, but {folder} is a file. Choose another name.")
    if not folder.exists():
        return
    if layout.structure.exists():
        if not _named(folder):
            raise ValueError(
                f"`folder` must be new, empty or a saved model, but the {STRUCTURE} of {folder} is "
                "damaged or not of skxc. Choose another folder, or remove the file."
            )
        return
    if not set(folder.iterdir()) <= set(layout.leftovers()):
        raise ValueError(
            f"`folder` must be new, empty or a saved model, but {folder} holds other files. "
            "Choose another folder, such as a new one inside it."
        )


def _named(folder: Path) -> Iterable[Path]:
    """Return the data file that the present model needs, if there is one."""
    try:
        check_regular(folder / STRUCTURE)
        structure = json.loads((folder / STRUCTURE).read_bytes())
        _, save_id = structure["format_version"], structure["save_id"]
        return [Layout(folder, save_id).arrays, folder / f"sparse-{save_id}.npz"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def _read(path: Path) -> bytes:
    try:
        check_regular(path)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"`folder` must hold a saved model, but {path} is missing. "
            "Check the path; `save` writes such folders."
        ) from error


def _parse(content: bytes, path: Path) -> dict[str, Any]:
    try:
        structure = json.loads(content)
        version = structure["format_version"]
        if type(version) is not int or version < 1:
            raise ValueError(f"{version!r} is no format version")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(_damaged(path, error)) from error
    if version != FORMAT_VERSION:
        cure = "Update skxc." if version > FORMAT_VERSION else "Fit and save the model again."
        raise FormatVersionError(
            f"{path} has format version {version} (skxc {structure.get('skxc_version')}), but the "
            f"installed skxc {skxc.__version__} reads version {FORMAT_VERSION}. {cure}"
        )
    return structure


def _build(folder: Path, structure: dict[str, Any], mmap: bool) -> Any:
    path = folder / STRUCTURE
    try:
        layout = Layout(folder, structure["save_id"])
        path = layout.arrays
        check_regular(path)
        arrays = map_arrays(path) if mmap else _read_arrays(path)
        path = layout.structure
        return Rebuilder(arrays).root(structure["estimator"])
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path} is missing from the saved model. Copy the whole folder, or save again."
        ) from error
    except FormatVersionError:
        raise
    except _DAMAGE as error:
        raise ValueError(_damaged(path, error)) from error


def _read_arrays(path: Path) -> dict[str, NDArray]:
    with safe_open(path, framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _damaged(path: Path, error: Exception) -> str:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{path} is damaged ({reason[:500]}). Copy or save the model again."
