"""The field's raw-text files ``trn.json``, ``tst.json``, ``lbl.json``: one JSON object per line.

Keys: ``uid``, ``title``, ``content`` (the text is title and content, joined by a space), and for
samples ``target_ind`` (label numbers from 0) with ``target_rel`` (their relevances, optional).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.datasets._lines import LARGEST_SIZE, located, malformed, read_lines, write_bytes
from skxc.datasets._ones import ones
from skxc.utils._validation import is_unicode


class Records(NamedTuple):
    """The content of one file; `lengths` and `targets` are empty for ``lbl.json``."""

    path: Path
    texts: list[str]
    ids: list[str] | None
    lengths: NDArray[np.int64]
    targets: NDArray[np.int64]

    def n_targets(self) -> int:
        """Return the smallest number of labels that the targets allow."""
        return int(self.targets.max(initial=-1)) + 1

    def labels(self, n_labels: int) -> sp.csr_array:
        """Return the label matrix (n, L), or raise ValueError for a label out of range."""
        rows = np.repeat(np.arange(len(self.texts)), self.lengths)
        outside = np.flatnonzero(self.targets >= n_labels)
        if len(outside):
            label = self.targets[outside[0]]
            reason = f"label {label} is out of range: there are {n_labels}, numbered from 0."
            raise malformed(self.path, int(rows[outside[0]]) + 1, reason)
        return ones(rows, self.targets, (len(self.texts), n_labels))


def read_json_lines(path: Path, *, with_targets: bool, encoding: str = "utf-8") -> Records:
    """Read one file of records.

    Parameters
    ----------
    path : Path
        Plain or ``.gz``.
    with_targets : bool
        Whether every record must have ``target_ind``.
    encoding : str, default="utf-8"
        Encoding of the file.

    Returns
    -------
    Records
        Targets of relevance 0 are left out; ids are None unless every record has a ``uid``.

    Raises
    ------
    ValueError
        With file, line number and reason, if a line is no such record.
    """
    texts, ids, lengths, targets = [], [], [], []
    for number, line in enumerate(read_lines(path, encoding), start=1):
        with located(path, number):
            record = _record(line)
            texts.append(_text(record))
            found = _targets(record) if with_targets else []
        ids.append(record.get("uid"))
        lengths.append(len(found))
        targets.extend(found)
    uids = None if None in ids else [str(uid) for uid in ids]
    return Records(path, texts, uids, np.array(lengths, np.int64), np.array(targets, np.int64))


def write_json_lines(
    path: Path, texts: Sequence[str], ids: Sequence[str] | None, labels: sp.csr_array | None
) -> None:
    """Write one record per text.

    Parameters
    ----------
    path : Path
        Packed if the name ends in ``.gz``.
    texts : sequence of str of length n
        Become ``title``; ``content`` stays empty.
    ids : sequence of str of length n, or None
        Become ``uid``.
    labels : csr_array of shape (n, L), or None
        Stored entries become ``target_ind``.
    """
    write_bytes(path, (json.dumps(record) + "\n" for record in _records(texts, ids, labels)))


def _records(
    texts: Sequence[str], ids: Sequence[str] | None, labels: sp.csr_array | None
) -> Iterator[dict[str, Any]]:
    for i, text in enumerate(texts):
        record: dict[str, Any] = {} if ids is None else {"uid": ids[i]}
        record |= {"title": text, "content": ""}
        if labels is not None:
            found = labels.indices[labels.indptr[i] : labels.indptr[i + 1]].tolist()
            record |= {"target_ind": found, "target_rel": [1.0] * len(found)}
        yield record


def _record(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON object ({error}).") from error
    if not isinstance(record, dict):
        raise ValueError(f"no JSON object, but a {type(record).__name__}.")
    return record


def _text(record: dict[str, Any]) -> str:
    parts = [record.get("title", ""), record.get("content", "")]
    if not all(isinstance(part, str) and is_unicode(part) for part in parts):
        raise ValueError("`title` and `content` must be strings of whole characters.")
    return " ".join(part for part in parts if part)


def _targets(record: dict[str, Any]) -> list[int]:
    found = record.get("target_ind")
    if not (isinstance(found, list) and all(type(label) is int for label in found)):
        raise ValueError("`target_ind` must be a list of label numbers.")
    if found and not 0 <= min(found) <= max(found) < LARGEST_SIZE:
        raise ValueError(f"`target_ind` must lie between 0 and {LARGEST_SIZE - 1}.")
    relevances = record.get("target_rel")
    if relevances is None:
        return found
    if not (isinstance(relevances, list) and len(relevances) == len(found)):
        raise ValueError(f"`target_rel` must be a list of {len(found)} numbers, one per target.")
    if not all(isinstance(value, int | float) and 0 <= value < math.inf for value in relevances):
        raise ValueError("`target_rel` must be a list of finite numbers, none below 0.")
    return [label for label, value in zip(found, relevances, strict=True) if value]
