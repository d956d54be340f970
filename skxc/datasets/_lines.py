"""Files of lines: opened plain or gzipped, read strictly, errors that name file and line."""

from __future__ import annotations

import gzip
import io
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

BLOCK_BYTES = 1 << 22
# Ids of rows and columns have 32 bits.
LARGEST_SIZE = 2**31 - 1
GZIP = b"\x1f\x8b"


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
def open_binary(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, unpacked if it is a gzip file, after a UTF-8 mark.

    Raises
    ------
    ValueError
        If a packed file is damaged, or no gzip file although its name ends in ``.gz``.
    """
    with path.open("rb") as file, unpacked(file, path) as content:
        yield content


@contextmanager
def unpacked(file: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    """Yield the content of an open file; see `open_binary`."""
    file = file if hasattr(file, "peek") else io.BufferedReader(cast(Any, file))
    is_packed = path.suffix == ".gz" or _starts_with(file, GZIP)
    content: Any = gzip.GzipFile(fileobj=file) if is_packed else file
    try:
        if _starts_with(content, BOM_UTF8):
            content.read(len(BOM_UTF8))
        yield content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: no whole gzip file ({error}). Copy or pack it again.") from error


def _starts_with(file: Any, mark: bytes) -> bool:
    return file.peek(len(mark))[: len(mark)] == mark


def check_encoding(encoding: str) -> None:
    """Raise ValueError unless Python knows a text encoding of that name."""
    try:
        "a".encode(encoding)
    except (LookupError, ValueError) as error:
        raise ValueError(
            f"`encoding` must be the name of a text encoding, but is {encoding!r}. Use one such as "
            "'utf-8', 'latin-1' or 'cp1252'."
        ) from error


def lines_of(file: IO[bytes], path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """Yield the lines of an open file as they come; only line feeds (or CR LF) end a line.

    Raises
    ------
    ValueError
        With file and line, if a line cannot be decoded.
    """
    check_encoding(encoding)
    # Where a line feed is more than one byte, lines can only be told in decoded text.
    lines: Iterable[bytes] = file if "\n".encode(encoding) == b"\n" else [file.read()]
    number = 1
    for line in lines:
        try:
            text = line.decode(encoding)
        except UnicodeError as error:
            before = line[: getattr(error, "start", 0)].decode(encoding, "replace")
            reason = (
                f"not {encoding} text ({getattr(error, 'reason', error)}). Pass the file's own "
                "encoding: encoding='latin-1', or --encoding latin-1."
            )
            raise malformed(path, number + before.count("\n"), reason) from error
        *whole, rest = text.split("\n")
        for one in whole:
            yield one.removesuffix("\r")
            number += 1
        if rest:
            yield rest


def read_blocks(file: IO[bytes]) -> Iterator[bytes]:
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
        return list(lines_of(file, path, encoding))


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
