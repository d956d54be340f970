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
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.datasets._lines import malformed, open_binary, read_blocks, write_bytes
from skxc.utils._sparse import index_dtype, row_ids

_ROWS_PER_CHUNK = 8192
_BLANKS = bytes.maketrans(b"\t\r", b"  ")
_COLONS = bytes.maketrans(b":", b" ")
_COMMAS = bytes.maketrans(b",", b" ")
_NUMBER = rb"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_PAIR = re.compile(_NUMBER + b":" + _NUMBER)
_LABELS = re.compile(rb"\d+(,\d+)*")


class _Rows(NamedTuple):
    """Ragged integer lists (columns or labels) with one value each, for consecutive lines."""

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
    write_bytes(Path(path), _with_header(matrix.shape, _pair_lines(matrix)))


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
    pairs = zip(_label_lines(labels), _pair_lines(features), strict=True)
    shape = (*features.shape, labels.shape[1])
    write_bytes(Path(path), _with_header(shape, (f"{left} {right}" for left, right in pairs)))


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
    path, found, n_read = Path(path), [np.empty((0, 2))], 0
    with open_binary(path) as file:
        for block in read_blocks(file):
            pairs = _parse_filter(block, shape)
            if pairs is None:
                raise _bad_filter_line(path, block, n_read + 1, shape)
            found.append(pairs)
            n_read += block.count(b"\n")
    rows, columns = np.concatenate(found).astype(index_dtype(max(shape))).T
    matrix = sp.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


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


def _label_lines(labels: sp.csr_array) -> Iterator[str]:
    for row in _tokens(labels.indptr, labels.indices, None):
        yield ",".join(row)


def _pair_lines(matrix: sp.csr_array) -> Iterator[str]:
    for row in _tokens(matrix.indptr, matrix.indices, matrix.data.astype(np.float32)):
        yield " ".join(row)


def _tokens(
    indptr: NDArray, columns: NDArray, values: NDArray[np.float32] | None
) -> Iterator[list[str]]:
    """Yield the written entries of every row, formatted for many rows at a time."""
    for first in range(0, len(indptr) - 1, _ROWS_PER_CHUNK):
        edges = indptr[first : first + _ROWS_PER_CHUNK + 1]
        tokens = list(map(str, columns[edges[0] : edges[-1]].tolist()))
        if values is not None:
            written = values[edges[0] : edges[-1]].astype("U").tolist()
            tokens = [f"{column}:{value}" for column, value in zip(tokens, written, strict=True)]
        offsets = (edges - edges[0]).tolist()
        for start, stop in pairwise(offsets):
            yield tokens[start:stop]


# ---------------------------------------------------------------- reading
def _read(path: Path, n_header: int) -> list[sp.csr_array]:
    """Return [matrix] of a file with header ``n m``, [features, labels] with ``n d L``."""
    with open_binary(path) as file:
        shape = _header(path, file.readline(), n_header)
        blocks, n_read = [], 0
        for block in read_blocks(file):
            parsed = _parse_block(block.translate(_BLANKS), shape[1:])
            if parsed is None:
                raise _bad_line(path, block.translate(_BLANKS), n_read + 2, shape[1:])
            blocks.append(parsed)
            n_read += len(parsed[0].lengths)
    return [
        _assemble(path, [block[part] for block in blocks], shape[0], n_columns)
        for part, n_columns in enumerate(shape[1:])
    ]


def _header(path: Path, line: bytes, n_header: int) -> list[int]:
    words = line.split()
    wanted = {2: "two counts, 'rows columns'", 3: "three counts, 'samples features labels'"}
    if len(words) != n_header or not all(word.isdigit() for word in words):
        shown = line.decode("latin-1").strip()[:80]
        raise malformed(path, 1, f"the header must be {wanted[n_header]}, but is {shown!r}.")
    return [int(word) for word in words]


def _assemble(path: Path, blocks: list[_Rows], n_rows: int, n_columns: int) -> sp.csr_array:
    """Stack the rows of all blocks, after comparing their number with the header."""
    lengths = np.concatenate([[0], *(block.lengths for block in blocks)])[1:].astype(np.int64)
    if len(lengths) < n_rows or lengths[n_rows:].any():
        line = min(len(lengths), n_rows) + 2
        reason = f"the header announces {n_rows} rows, but the file has {len(lengths)}."
        raise malformed(path, line, f"{reason} Correct the header or the lines.")
    indptr = np.concatenate(
        [[0], np.cumsum(lengths[:n_rows])]
    )  # blank lines at the end are dropped
    dtype = index_dtype(max(n_columns, int(indptr[-1])))
    columns = np.concatenate([np.empty(0, dtype), *(b.columns.astype(dtype) for b in blocks)])
    values = np.concatenate([np.empty(0, np.float32), *(block.values for block in blocks)])
    matrix = sp.csr_array((values, columns, indptr.astype(dtype)), shape=(n_rows, n_columns))
    matrix.sum_duplicates()
    return matrix


def _parse_block(block: bytes, sizes: list[int]) -> list[_Rows] | None:
    """Parse whole lines; None if any of them is malformed."""
    if block.translate(None, b"0123456789+-.eE:, \n"):
        return None
    text = np.frombuffer(block, dtype=np.uint8)
    if len(sizes) == 1:
        parts = [_parse_pairs(text, sizes[0])]
    else:
        is_label = _label_bytes(text)
        parts = [
            _parse_pairs(text[~is_label], sizes[0]),
            _parse_labels(text[is_label | (text == ord("\n"))], sizes[1]),
        ]
    found = [part for part in parts if part is not None]
    return found if len(found) == len(parts) else None


def _label_bytes(text: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Mark the first word of every line, unless it is a feature:value pair."""
    stops = np.flatnonzero(text <= ord(" "))
    colons = np.flatnonzero(text == ord(":"))
    starts = np.concatenate([[0], np.flatnonzero(text == ord("\n"))[:-1] + 1])
    ends = stops[np.searchsorted(stops, starts)]
    is_pair = np.searchsorted(colons, ends) > np.searchsorted(colons, starts)
    ends = np.where(is_pair, starts, ends)
    # +1 where a label word starts, -1 behind it: the running sum is 1 inside.
    steps = np.zeros(len(text) + 1, dtype=np.int8)
    np.add.at(steps, starts, 1)
    np.add.at(steps, ends, -1)
    return np.cumsum(steps[:-1], dtype=np.int8).astype(bool)


def _parse_pairs(text: NDArray[np.uint8], n_columns: int) -> _Rows | None:
    """Parse lines of ``column:value`` words."""
    colon, blank = text == ord(":"), text <= ord(" ")
    starts = ~blank
    starts[1:] &= blank[:-1]
    word_of_colon = np.cumsum(starts, dtype=np.int32)[colon]
    n_words = int(starts.sum())
    # With one colon per word a word holds at most two numbers, so the total shows that none lacks.
    if not np.array_equal(word_of_colon, np.arange(1, n_words + 1)):
        return None
    numbers = _numbers(text.tobytes().translate(_COLONS), 2 * n_words)
    if numbers is None:
        return None
    return _checked(_words_per_line(starts, text), numbers[::2], numbers[1::2], n_columns)


def _parse_labels(text: NDArray[np.uint8], n_labels: int) -> _Rows | None:
    """Parse lines of ``label,label`` words, one per line or none."""
    digit = (text >= ord("0")) & (text <= ord("9"))
    comma = text == ord(",")
    starts = digit.copy()
    starts[1:] &= ~digit[:-1]
    padded = np.pad(digit, 1)
    n_lonely = np.count_nonzero(comma & ~(padded[:-2] & padded[2:]))
    numbers = _numbers(text.tobytes().translate(_COMMAS), int(starts.sum()))
    if n_lonely or numbers is None or not (digit | comma | (text == ord("\n"))).all():
        return None
    ones = np.ones(len(numbers))
    return _checked(_words_per_line(starts, text), numbers, ones, n_labels)


def _words_per_line(starts: NDArray[np.bool_], text: NDArray[np.uint8]) -> NDArray[np.int64]:
    line_ends = np.flatnonzero(text == ord("\n"))
    return np.diff(np.searchsorted(np.flatnonzero(starts), line_ends), prepend=0)


def _numbers(text: bytes, count: int) -> NDArray[np.float64] | None:
    """Return the blank-separated numbers, or None if there are not exactly `count`."""
    if not count:
        return np.empty(0) if not text.split() else None
    with warnings.catch_warnings():
        # Older versions of numpy warn and stop at a word they cannot read, newer ones raise.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            numbers = np.fromstring(text, dtype=np.float64, sep=" ")
        except ValueError:
            return None
    return numbers if len(numbers) == count else None


def _checked(
    lengths: NDArray[np.int64],
    columns: NDArray[np.float64],
    values: NDArray[np.float64],
    n_columns: int,
) -> _Rows | None:
    with np.errstate(over="ignore"):
        values32 = values.astype(np.float32)
    inside = (columns >= 0) & (columns < n_columns) & (columns == np.floor(columns))
    if not (inside.all() and np.isfinite(values32).all()):
        return None
    return _Rows(lengths, columns.astype(np.int64), values32)


def _parse_filter(block: bytes, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    words = [len(line.split()) for line in block.split(b"\n")]
    numbers = _numbers(block, sum(words))
    if numbers is None or any(count not in (0, 2) for count in words):
        return None
    pairs = numbers.reshape(-1, 2)
    inside = (pairs >= 0) & (pairs < np.array(shape)) & (pairs == np.floor(pairs))
    return pairs if inside.all() else None


# ---------------------------------------------------------------- explaining
def _bad_line(path: Path, block: bytes, first_line: int, sizes: list[int]) -> ValueError:
    for number, line in enumerate(block.split(b"\n")[:-1], start=first_line):
        if reason := _line_fault(line, sizes):
            return malformed(path, number, reason)
    return malformed(path, first_line, "a line near here cannot be read as column:value pairs.")


def _line_fault(line: bytes, sizes: list[int]) -> str | None:
    """Return what is wrong with one line, or None."""
    words = line.split()
    has_labels = len(sizes) == 2 and not line.startswith(b" ") and words and b":" not in words[0]
    if has_labels:
        word = words.pop(0)
        if not _LABELS.fullmatch(word):
            return f"{_shown(word)} is no comma-separated list of label numbers."
        for label in word.split(b","):
            if int(label) >= sizes[1]:
                return _outside("label", int(label), sizes[1])
    kind = "column" if len(sizes) == 1 else "feature"
    for word in words:
        if not _PAIR.fullmatch(word):
            return f"{_shown(word)} is no {kind}:value pair of numbers."
        column, value = map(float, word.split(b":"))
        if not (column.is_integer() and 0 <= column < sizes[0]):
            return _outside(kind, column, sizes[0])
        if abs(value) > float(np.finfo(np.float32).max):
            return f"{_shown(word)} does not fit a 32-bit float."
    return None


def _bad_filter_line(
    path: Path, block: bytes, first_line: int, shape: tuple[int, int]
) -> ValueError:
    for number, line in enumerate(block.split(b"\n")[:-1], start=first_line):
        if line.split() and (reason := _filter_fault(line, shape)):
            return malformed(path, number, reason)
    return malformed(path, first_line, "a line near here is no 'sample label' pair.")


def _filter_fault(line: bytes, shape: tuple[int, int]) -> str | None:
    words = line.split()
    if len(words) != 2 or not all(re.fullmatch(_NUMBER, word) for word in words):
        return f"{_shown(line)} is no 'sample label' pair of numbers."
    for kind, word, size in zip(("sample", "label"), words, shape, strict=True):
        number = float(word)
        if not (number.is_integer() and 0 <= number < size):
            return _outside(kind, number, size)
    return None


def _outside(kind: str, number: float, size: int) -> str:
    return f"{kind} {number:.17g} is out of range: there are {size}, numbered from 0."


def _shown(word: bytes) -> str:
    return repr(word.decode("utf-8", "replace")[:80])
