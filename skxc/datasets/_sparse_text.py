"""The numeric text formats of the field, parsed in blocks by numpy.

Two formats, both numbered from 0 (Bhatia et al., The extreme classification repository):

* sparse matrix: first line ``n m``, then one line ``column:value column:value ...`` per row;
* bag of words: first line ``n d L``, then one line ``label,label feature:value ...`` per sample;
  a line that starts with a space, or with a ``feature:value`` pair, has no labels.

A block of lines is checked and parsed as one array of bytes. Only when the block proves bad is it
read again line by line, to say which line is wrong and why.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.datasets._lines import (
    LARGEST_SIZE,
    located,
    malformed,
    open_binary,
    read_blocks,
    write_bytes,
)
from skxc.datasets._ones import ones
from skxc.utils._sparse import index_dtype, row_ids

_ROWS_PER_CHUNK = 8192
_BLANKS = bytes.maketrans(b"\t\r", b"  ")
_COLONS = bytes.maketrans(b":", b" ")
_LABEL_BYTES = b"0123456789: \n"
_PAIR_BYTES = _LABEL_BYTES + b"+-.eE"
_NUMBER = rb"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_PAIR = re.compile(_NUMBER + b":" + _NUMBER)
_TWO_NUMBERS = re.compile(rb"\s*" + _NUMBER + rb"\s+" + _NUMBER + rb"\s*")
_LABELS = re.compile(rb"\d+(,\d+)*")


class _Rows(NamedTuple):
    """Ragged lists of columns with one value each, for consecutive lines."""

    lengths: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.float32]


def read_sparse_text(path: str | Path) -> sp.csr_array:
    """Read a sparse matrix file: header ``n m``, then ``column:value`` pairs.

    Parameters
    ----------
    path : str or Path
        Plain or ``.gz``.

    Returns
    -------
    csr_array of float32, shape (n, m)
        Columns sorted, repeated columns of a row summed.

    Raises
    ------
    ValueError
        With file, line number and reason, if a line is malformed or contradicts the header.
    """
    return _read(Path(path), n_header=2)[0]


def read_bow_text(path: str | Path) -> tuple[sp.csr_array, sp.csr_array]:
    """Read a bag-of-words file: header ``n d L``, then ``labels feature:value ...``.

    Parameters
    ----------
    path : str or Path
        Plain or ``.gz``.

    Returns
    -------
    features : csr_array of float32, shape (n, d)
        Columns sorted, repeated features of a row summed.
    labels : csr_array of float32 ones, shape (n, L)
        Columns sorted.

    Raises
    ------
    ValueError
        With file, line number and reason, if a line is malformed or contradicts the header.
    """
    features, labels = _read(Path(path), n_header=3)
    labels.data[:] = 1  # a label named twice counts once
    return features, labels


def write_sparse_text(path: str | Path, matrix: sp.csr_array) -> None:
    """Write a sparse matrix file; values are float32 in their shortest exact form.

    Parameters
    ----------
    path : str or Path
        Packed if the name ends in ``.gz``.
    matrix : csr_array of shape (n, m)
        Stored zeros are written too.
    """
    matrix = sp.csr_array(matrix)
    write_bytes(Path(path), _with_header(matrix.shape, _lines(matrix, " ")))


def write_bow_text(path: str | Path, features: sp.csr_array, labels: sp.csr_array) -> None:
    """Write a bag-of-words file.

    Parameters
    ----------
    path : str or Path
        Packed if the name ends in ``.gz``.
    features : csr_array of shape (n, d)
        Written as float32.
    labels : csr_array of shape (n, L)
        Every stored entry is a label.

    Raises
    ------
    ValueError
        If the two have different numbers of rows.
    """
    features, labels = sp.csr_array(features), sp.csr_array(labels)
    if features.shape[0] != labels.shape[0]:
        raise ValueError(
            f"`features` has {features.shape[0]} rows but `labels` has {labels.shape[0]}. "
            "Pass one row of each per sample."
        )
    sides = zip(_lines(labels, ",", with_values=False), _lines(features, " "), strict=True)
    shape = (*features.shape, labels.shape[1])
    write_bytes(Path(path), _with_header(shape, (f"{left} {right}" for left, right in sides)))


def read_filter_text(path: str | Path, shape: tuple[int, int]) -> sp.csr_array:
    """Read a filter file: one ``sample label`` pair per line, both numbered from 0.

    Parameters
    ----------
    path : str or Path
        Plain or ``.gz``.
    shape : (int, int)
        Numbers of samples and labels.

    Returns
    -------
    csr_array of float32 ones, shape (n, L)
        Columns sorted; blank lines and repeated pairs do not matter.

    Raises
    ------
    ValueError
        With file, line number and reason.
    """
    path, pairs = Path(path), []
    with open_binary(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                with located(path, number):
                    pairs.append(_filter_pair(line, shape))
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return ones(rows, columns, shape)


def write_filter_text(path: str | Path, pairs: sp.csr_array) -> None:
    """Write the stored entries of a matrix as ``sample label`` lines.

    Parameters
    ----------
    path : str or Path
        Packed if the name ends in ``.gz``.
    pairs : csr_array of shape (n, L)
        The values do not matter.
    """
    pairs = sp.csr_array(pairs)
    rows, columns = row_ids(pairs).tolist(), pairs.indices.tolist()
    write_bytes(
        Path(path), (f"{row} {column}\n" for row, column in zip(rows, columns, strict=True))
    )


# ---------------------------------------------------------------- writing
def _with_header(shape: tuple[int, ...], lines: Iterator[str]) -> Iterator[str]:
    yield " ".join(map(str, shape)) + "\n"
    yield from (f"{line}\n" for line in lines)


def _lines(matrix: sp.csr_array, separator: str, with_values: bool = True) -> Iterator[str]:
    """Yield the entries of every row as text, formatted for many rows at a time."""
    for first in range(0, matrix.shape[0], _ROWS_PER_CHUNK):
        edges = matrix.indptr[first : first + _ROWS_PER_CHUNK + 1].tolist()
        chunk = slice(edges[0], edges[-1])
        words = list(map(str, matrix.indices[chunk].tolist()))
        if with_values:
            values = matrix.data[chunk].astype(np.float32).astype("U").tolist()
            words = [f"{column}:{value}" for column, value in zip(words, values, strict=True)]
        for start, stop in pairwise(edges):
            yield separator.join(words[start - edges[0] : stop - edges[0]])


# ---------------------------------------------------------------- reading
def _read(path: Path, n_header: int) -> list[sp.csr_array]:
    """Return [matrix] of a file with header ``n m``, [features, labels] with ``n d L``."""
    with open_binary(path) as file:
        n_rows, *sizes = _header(path, file.readline(), n_header)
        blocks, n_read = [], 0
        for block in read_blocks(file):
            block = block.translate(_BLANKS)
            texts = [block] if len(sizes) == 1 else _split_labels(block)
            kinds = zip(texts, sizes, (_PAIR_BYTES, _LABEL_BYTES), strict=False)
            rows = [part for part in (_parse(*kind) for kind in kinds) if part is not None]
            if len(rows) < len(sizes):
                _explain(path, block, n_read + 2, sizes)
            blocks.append(rows)
            n_read += len(rows[0].lengths)
    return [
        _assemble(path, [block[part] for block in blocks], n_rows, n_columns)
        for part, n_columns in enumerate(sizes)
    ]


def _header(path: Path, line: bytes, n_header: int) -> list[int]:
    words = line.split()
    wanted = {2: "two counts, 'rows columns'", 3: "three counts, 'samples features labels'"}
    if len(words) != n_header or not all(word.isdigit() for word in words):
        shown = line.decode("latin-1").strip()[:80]
        raise malformed(path, 1, f"the header must be {wanted[n_header]}, but is {shown!r}.")
    sizes = [int(word[:20]) for word in words]
    if max(sizes) > LARGEST_SIZE:
        raise malformed(path, 1, f"the header announces {max(sizes)} rows or columns.")
    return sizes


def _split_labels(block: bytes) -> tuple[bytes, bytes]:
    """Return the ``feature:value`` words of every line, and its labels as ``label:1`` words."""
    pairs, labels = [], []
    for line in block.split(b"\n")[:-1]:
        first, _, rest = line.partition(b" ")
        if b":" in first:
            first, rest = b"", line
        pairs.append(rest + b"\n")
        labels.append(first and first.replace(b",", b":1 ") + b":1")
    return b"".join(pairs), b"\n".join([*labels, b""])


def _parse(text: bytes, n_columns: int, allowed: bytes) -> _Rows | None:
    """Parse whole lines of ``column:value`` words; None if any of them is malformed."""
    if text.translate(None, allowed):
        return None
    array = np.frombuffer(text, dtype=np.uint8)
    blank = array <= ord(" ")
    starts = ~blank
    starts[1:] &= blank[:-1]
    words = np.flatnonzero(starts)
    # With one colon per word a word holds at most two numbers, so the total shows that none lacks.
    word_of_colon = np.cumsum(starts, dtype=np.int32)[array == ord(":")]
    if not np.array_equal(word_of_colon, np.arange(1, len(words) + 1)):
        return None
    numbers = _numbers(text.translate(_COLONS))
    if numbers is None or len(numbers) != 2 * len(words):
        return None
    with np.errstate(over="ignore"):
        columns, values = numbers[::2], numbers[1::2].astype(np.float32)
    inside = (columns >= 0) & (columns < n_columns) & (columns == np.floor(columns))
    if not (inside.all() and np.isfinite(values).all()):
        return None
    line_ends = np.flatnonzero(array == ord("\n"))
    lengths = np.diff(np.searchsorted(words, line_ends), prepend=0)
    return _Rows(lengths, columns.astype(np.int64), values)


def _numbers(text: bytes) -> NDArray[np.float64] | None:
    """Return the blank-separated numbers, fewer or None where a word is no number."""
    if not text.strip():
        return np.empty(0)
    with warnings.catch_warnings():
        # Older versions of numpy warn and stop at a word they cannot read, newer ones raise.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return np.fromstring(text, dtype=np.float64, sep=" ")
        except ValueError:
            return None


def _assemble(path: Path, blocks: list[_Rows], n_rows: int, n_columns: int) -> sp.csr_array:
    """Stack the rows of all blocks, after comparing their number with the header."""
    lengths = np.concatenate([[0], *(block.lengths for block in blocks)])[1:].astype(np.int64)
    if len(lengths) < n_rows or lengths[n_rows:].any():
        line = min(len(lengths), n_rows) + 2
        reason = f"the header announces {n_rows} rows, but the file has {len(lengths)}."
        raise malformed(path, line, f"{reason} Correct the header or the lines.")
    # Blank lines at the end are dropped.
    indptr = np.concatenate([[0], np.cumsum(lengths[:n_rows])])
    dtype = index_dtype(max(n_columns, int(indptr[-1])))
    columns = np.concatenate([np.empty(0, dtype), *(b.columns.astype(dtype) for b in blocks)])
    values = np.concatenate([np.empty(0, np.float32), *(block.values for block in blocks)])
    matrix = sp.csr_array((values, columns, indptr.astype(dtype)), shape=(n_rows, n_columns))
    matrix.sum_duplicates()
    return matrix


# ---------------------------------------------------------------- explaining
def _explain(path: Path, block: bytes, first_line: int, sizes: list[int]) -> NoReturn:
    """Raise the ValueError about the first malformed line of a block."""
    for number, line in enumerate(block.split(b"\n")[:-1], start=first_line):
        with located(path, number):
            _check_line(line, sizes)
    raise malformed(path, first_line, "a line near here cannot be read as column:value pairs.")


def _check_line(line: bytes, sizes: list[int]) -> None:
    """Raise the ValueError that says what is wrong with one line, if anything."""
    words, kind = line.split(), "column" if len(sizes) == 1 else "feature"
    if len(sizes) == 2 and not line.startswith(b" ") and words and b":" not in words[0]:
        word = words.pop(0)
        if not _LABELS.fullmatch(word):
            raise ValueError(f"{_shown(word)} is no comma-separated list of label numbers.")
        for label in word.split(b","):
            _check_inside("label", float(label), sizes[1])
    for word in words:
        if not _PAIR.fullmatch(word):
            raise ValueError(f"{_shown(word)} is no {kind}:value pair of numbers.")
        column, value = map(float, word.split(b":"))
        _check_inside(kind, column, sizes[0])
        if abs(value) > float(np.finfo(np.float32).max):
            raise ValueError(f"{_shown(word)} does not fit a 32-bit float.")


def _filter_pair(line: bytes, shape: tuple[int, int]) -> list[int]:
    if not _TWO_NUMBERS.fullmatch(line):
        raise ValueError(f"{_shown(line.strip())} is no 'sample label' pair of numbers.")
    numbers = [float(word) for word in line.split()]
    for kind, number, size in zip(("sample", "label"), numbers, shape, strict=True):
        _check_inside(kind, number, size)
    return [int(number) for number in numbers]


def _check_inside(kind: str, number: float, size: int) -> None:
    if not (number.is_integer() and 0 <= number < size):
        raise ValueError(
            f"{kind} {number:.17g} is out of range: there are {size}, numbered from 0."
        )


def _shown(word: bytes) -> str:
    return repr(word.decode("utf-8", "replace")[:80])
