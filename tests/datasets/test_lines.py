import gzip

import pytest

from skxc.datasets import _lines
from skxc.datasets._lines import lines_of, open_binary, read_blocks, read_lines, write_lines


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_round_trip_keeps_odd_lines(tmp_path, name):
    # neither the line separator of Unicode nor a form feed ends a line
    lines = ["", "two words", " über \u2028 mid \x0c", "", "日本語", ""]
    write_lines(tmp_path / name, lines)
    assert read_lines(tmp_path / name) == lines
    write_lines(tmp_path / f"none{name}", [])
    assert read_lines(tmp_path / f"none{name}") == []


def test_packed_files_are_packed_and_reproducible(tmp_path):
    write_lines(tmp_path / "a.gz", ["x"] * 100)
    write_lines(tmp_path / "b.gz", ["x"] * 100)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"x\n" * 100


def test_windows_line_ends_and_a_missing_last_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\r\nb\r\nc")
    assert read_lines(path) == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_byte_order_mark_is_no_text(tmp_path, name):
    content = b"\xef\xbb\xbffirst\nsecond\rstill\r\n"
    packed = gzip.compress(content) if name.endswith("gz") else content
    (tmp_path / name).write_bytes(packed)
    assert read_lines(tmp_path / name) == ["first", "second\rstill"]
    with open_binary(tmp_path / name) as file:
        assert list(lines_of(file, tmp_path / name)) == ["first", "second\rstill"]


@pytest.mark.parametrize(
    "content", [b"plain text", b"\x1f\x8b", gzip.compress(b"a\n" * 999, mtime=0)[:-9]]
)
def test_damaged_packed_files_are_named(tmp_path, content):
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.gz: no whole gzip file"):
        read_lines(tmp_path / "a.gz")


def test_a_wrong_encoding_names_the_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\nb\n\xe9t\xe9\n")
    with pytest.raises(ValueError, match=r"a.txt, line 3: not utf-8 text .* --encoding latin-1"):
        read_lines(path)
    assert read_lines(path, "latin-1") == ["a", "b", "été"]
    path.write_bytes("a\n\nété\r\nb".encode("utf-16"))
    assert read_lines(path, "utf-16") == ["a", "", "été", "b"]
    path.write_bytes("a\nb\n".encode("utf-16") + b"\x00\xd8")
    with pytest.raises(ValueError, match=r"a.txt, line 3: not utf-16 text"):
        read_lines(path, "utf-16")


@pytest.mark.parametrize("encoding", ["no-such", "hex", "undefined", "a\0b"])
def test_an_encoding_that_is_none(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes(b"a")
    with pytest.raises(ValueError, match="`encoding` must be the name of a text encoding"):
        read_lines(tmp_path / "a.txt", encoding)


@pytest.mark.parametrize("text", ["a\nb", "a\r"])
def test_a_line_break_in_a_text_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match=r"Text 1 for .*a.txt contains a line break"):
        write_lines(tmp_path / "a.txt", ["fine", text])


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_blocks_are_whole_lines(tmp_path, monkeypatch, size):
    monkeypatch.setattr(_lines, "BLOCK_BYTES", size)
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"ab\n\nlonger line\nend"))
    with open_binary(path) as file:
        blocks = list(read_blocks(file))
    assert b"".join(blocks) == b"ab\n\nlonger line\nend\n"
    assert all(block.endswith(b"\n") for block in blocks)
    assert (len(blocks) == 1) == (size == 100)
