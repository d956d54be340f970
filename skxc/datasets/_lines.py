"""Files of lines: opened plain or gzipped, read strictly, errors that name file and line."""

from __future__ import annotations

import gzip
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

BLOCK_BYTES = 1 << 22


def malformed(path: Path, line: int, reason: str) -> ValueError:
    """Return the error for one bad line (counted from 1) of a file."""
    return ValueError(f"{path}, line {line}: {reason}")


@contextmanager
def located(path: Path, line: int) -> Iterator[None]:
    """Add file and line to the ValueErrors of a block of code."""
    try:
        yield
    except ValueError as error:
        raise malformed(path, line, str(error)) from error


@contextmanager
def open_binary(path: Path) -> Iterator[gzip.GzipFile | IO[bytes]]:
    """Open a file for reading bytes, unpacked if its name ends in ``.gz``, after a UTF-8 mark.

    Raises
    ------
    ValueError
        If a packed file is damaged.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            if file.peek(len(BOM_UTF8))[: len(BOM_UTF8)] == BOM_UTF8:
                file.read(len(BOM_UTF8))
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: no whole gzip file ({error}). Copy or pack it again.") from error


def lines_of(file: Iterable[bytes], path: Path) -> Iterator[str]:
    """Yield the lines of an open UTF-8 file, as `read_lines` returns them.

    Raises
    ------
    ValueError
        With file and line, if a line cannot be decoded.
    """
    for number, line in enumerate(file, start=1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            reason = f"not utf-8 text ({error.reason}). Convert the file to UTF-8."
            raise malformed(path, number, reason) from error
        yield text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text


def read_blocks(file: gzip.GzipFile | IO[bytes]) -> Iterator[bytes]:
    """Yield whole lines in blocks of about 4 MB; every block ends with a line end."""
    while block := file.read(BLOCK_BYTES):
        block += file.readline()
        yield block if block.endswith(b"\n") else block + b"\n"


def write_bytes(path: Path, chunks: Iterable[str]) -> None:
    """Write UTF-8 text, packed if the name ends in ``.gz`` (same text, same bytes)."""
    with path.open("wb") as raw:
        # An empty name and no time stamp keep the packed file reproducible.
        packed = gzip.GzipFile("", "wb", 9, raw, mtime=0) if path.suffix == ".gz" else None
        file = packed or raw
        for chunk in chunks:
            file.write(chunk.encode("utf-8"))
        if packed:
            packed.close()


def read_lines(path: Path, encoding: str = "utf-8") -> list[str]:
    """Return the lines of a text file; only line feeds (or CR LF) end a line.

    Parameters
    ----------
    path : Path
        Plain or ``.gz``.
    encoding : str, default="utf-8"
        Encoding of the text.

    Returns
    -------
    list of str
        Without the line ends. A last line without a line end counts too.

    Raises
    ------
    ValueError
        If a line cannot be decoded, or the file not be unpacked.
    """
    with open_binary(path) as file:
        content = file.read()
    try:
        lines = content.decode(encoding).replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reason = f"not {encoding} text ({error.reason}). Pass the `encoding` of the file."
        raise malformed(path, line, reason) from error
    return lines[:-1] if lines[-1] == "" else lines


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write one text per line.

    Parameters
    ----------
    path : Path
        Plain or ``.gz``.
    lines : iterable of str
        Texts without line breaks.

    Raises
    ------
    ValueError
        If a text contains a line break: it would come back as two texts.
    """
    write_bytes(path, (f"{_one_line(path, i, line)}\n" for i, line in enumerate(lines)))


def _one_line(path: Path, position: int, line: str) -> str:
    if "\n" in line or line.endswith("\r"):
        raise ValueError(
            f"Text {position} for {path} contains a line break, but the file holds one text per "
            "line. Replace the line breaks with spaces, or save with format='json'."
        )
    return line
