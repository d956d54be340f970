import gzip

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.datasets import (
    _lines,
    read_bow_text,
    read_filter_text,
    read_sparse_text,
    write_bow_text,
    write_filter_text,
    write_sparse_text,
)


def put(tmp_path, text, name="file.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def slow_bow(text):
    """Read well-formed bag-of-words text with plain loops."""
    header, *lines = text.split("\n")
    n, d, n_labels = map(int, header.split())
    x, y = np.zeros((n, d), np.float32), np.zeros((n, n_labels), np.float32)
    for i, line in enumerate(lines[:n]):
        words = line.split(" ")
        if ":" in words[0]:
            words.insert(0, "")
        for label in words[0].split(","):
            if label:
                y[i, int(label)] = 1
        for word in words[1:]:
            if word:
                x[i, int(word.split(":")[0])] += np.float32(word.split(":")[1])
    return x, y


def assert_canonical(matrix):
    assert isinstance(matrix, sp.csr_array)
    assert matrix.dtype == np.float32
    assert matrix.indices.dtype == np.int32
    assert matrix.has_canonical_format


@pytest.fixture(params=[1, 7, 64, 1 << 22])
def block_bytes(request, monkeypatch):
    """Files in many small blocks and in one."""
    monkeypatch.setattr(_lines, "BLOCK_BYTES", request.param)


# ---------------------------------------------------------------- reading
def test_read_sparse_text(tmp_path, block_bytes):
    path = put(tmp_path, "3 5\n0:1 4:2.5\n\n3:-1e-2 1:.5\n")
    matrix = read_sparse_text(path)
    assert_canonical(matrix)
    expected = np.array([[1, 0, 0, 0, 2.5], [0] * 5, [0, 0.5, 0, -0.01, 0]], np.float32)
    np.testing.assert_array_equal(matrix.toarray(), expected)


def test_read_bow_text(tmp_path, block_bytes):
    text = "6 4 3\n0,2 1:0.5 3:1\n 2:7\n1:3 0:4\n1\n\n2,0 \n"
    x, y = read_bow_text(put(tmp_path, text))
    assert_canonical(x)
    assert_canonical(y)
    # rows 1 and 2: no labels, with and without the leading space; rows 3 and 5: no features
    np.testing.assert_array_equal(
        x.toarray(), [[0, 0.5, 0, 1], [0, 0, 7, 0], [4, 3, 0, 0], [0] * 4, [0] * 4, [0] * 4]
    )
    np.testing.assert_array_equal(
        y.toarray(), [[1, 0, 1], [0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]]
    )
    np.testing.assert_array_equal(slow_bow(text)[0], x.toarray())
    np.testing.assert_array_equal(slow_bow(text)[1], y.toarray())


def test_read_bow_text_against_loops(tmp_path, block_bytes):
    rng = np.random.default_rng(0)
    lines = ["200 30 20"]
    for _ in range(200):
        labels = ",".join(map(str, rng.permutation(20)[: rng.integers(0, 4)]))
        pairs = [f"{j}:{rng.normal():.5g}" for j in rng.permutation(30)[: rng.integers(0, 6)]]
        lines.append(" ".join([labels, *pairs]))
    text = "\n".join(lines) + "\n"
    x, y = read_bow_text(put(tmp_path, text))
    np.testing.assert_array_equal(x.toarray(), slow_bow(text)[0])
    np.testing.assert_array_equal(y.toarray(), slow_bow(text)[1])


def test_repeated_entries_sum_and_repeated_labels_count_once(tmp_path):
    x, y = read_bow_text(put(tmp_path, "1 3 3\n2,2,0 1:2 1:3\n"))
    np.testing.assert_array_equal(x.toarray(), [[0, 5, 0]])
    np.testing.assert_array_equal(y.toarray(), [[1, 0, 1]])
    np.testing.assert_array_equal(
        read_sparse_text(put(tmp_path, "1 2\n1:1 1:1\n")).toarray(), [[0, 2]]
    )


def test_white_space_line_ends_and_packing_do_not_matter(tmp_path):
    plain = read_bow_text(put(tmp_path, "2 3 2\n0 1:1 2:1\n 0:5\n"))
    odd = b"  2\t3 2 \r\n0\t1:1   2:1 \r\n   0:5\r\n\r\n\r\n"
    packed = put(tmp_path, gzip.compress(odd), "file.txt.gz")
    for other in (read_bow_text(put(tmp_path, odd[:-6])), read_bow_text(packed)):
        for a, b in zip(plain, other, strict=True):
            np.testing.assert_array_equal(a.toarray(), b.toarray())


def test_empty_matrices(tmp_path):
    assert read_sparse_text(put(tmp_path, "0 7\n")).shape == (0, 7)
    assert read_sparse_text(put(tmp_path, "2 7\n\n\n")).nnz == 0
    x, y = read_bow_text(put(tmp_path, "0 3 2"))
    assert x.shape == (0, 3) and y.shape == (0, 2)


def test_numbers_written_with_exponent_or_fraction_are_numbers(tmp_path):
    matrix = read_sparse_text(put(tmp_path, "1 200\n1e2:1E1 +3.0:-.5 007:5.\n"))
    assert matrix[0, 100] == 10 and matrix[0, 3] == -0.5 and matrix[0, 7] == 5


# ---------------------------------------------------------------- malformed files
@pytest.mark.parametrize(
    "header", ["", "3", "3 4 5 6", "a b", "3 4.5", "-3 4", "0:1 1:1", "3,4", "\xff 3"]
)
def test_bad_headers(tmp_path, header):
    with pytest.raises(ValueError, match=r"file.txt, line 1: the header must be two counts"):
        read_sparse_text(put(tmp_path, f"{header}\n0:1\n"))
    with pytest.raises(ValueError, match=r"line 1: the header must be three counts"):
        read_bow_text(put(tmp_path, f"{header}\n0 0:1\n"))


BAD_PAIRS = [
    ("3", "'3' is no {}:value pair"),
    ("3:", "'3:' is no {}:value pair"),
    (":3", "':3' is no {}:value pair"),
    (":", "':' is no {}:value pair"),
    ("1:2:3", "'1:2:3' is no {}:value pair"),
    ("1::2", "'1::2' is no {}:value pair"),
    ("1:2:3 4", "'1:2:3' is no {}:value pair"),  # as many colons as words, in the wrong words
    ("1:1-2", "'1:1-2' is no {}:value pair"),
    ("3: 4:1-2", "'3:' is no {}:value pair"),  # as many numbers as expected, in the wrong words
    ("0:1.2.0 1:e", "'0:1.2.0' is no {}:value pair"),  # as many as expected, then a stop
    ("1:nan", "'1:nan' is no {}:value pair"),
    ("1:inf", "'1:inf' is no {}:value pair"),
    ("1:0x10", "'1:0x10' is no {}:value pair"),
    ("1:1e", "'1:1e' is no {}:value pair"),
    ("1:--1", "'1:--1' is no {}:value pair"),
    ("a:1", "'a:1' is no {}:value pair"),
    ("1:2;", "'1:2;' is no {}:value pair"),
    ("5:1", "{} 5 is out of range: there are 5"),
    ("-1:1", "{} -1 is out of range"),
    ("1.5:1", "{} 1.5 is out of range"),
    ("12345678901:1", "{} 12345678901 is out of range"),
    ("1:1e39", "'1:1e39' does not fit a 32-bit float"),
    ("1:-1e400", "'1:-1e400' does not fit a 32-bit float"),
]


@pytest.mark.parametrize(("words", "reason"), BAD_PAIRS)
@pytest.mark.parametrize("before", [0, 3])
def test_bad_pairs(tmp_path, block_bytes, words, reason, before):
    good = "0:1 4:2\n" * before
    with pytest.raises(ValueError, match=f"line {before + 2}: {reason.format('column')}"):
        read_sparse_text(put(tmp_path, f"9 5\n{good}3:1 {words}\n0:1\n"))
    good = "0,1 0:1 4:2\n" * before
    with pytest.raises(ValueError, match=f"line {before + 2}: {reason.format('feature')}"):
        read_bow_text(put(tmp_path, f"9 5 2\n{good}0,1 3:1 {words}\n 0:1\n"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0,2 1:1", "label 2 is out of range: there are 2, numbered from 0"),
        ("0,,1 1:1", "'0,,1' is no comma-separated list of label numbers"),
        (",1 1:1", "',1' is no comma-separated"),
        ("0, 1 1:1", "'0,' is no comma-separated"),
        ("-1 1:1", "'-1' is no comma-separated"),
        ("0.0 1:1", "'0.0' is no comma-separated"),
        ("1e0 1:1", "'1e0' is no comma-separated"),
        ("cat 1:1", "'cat' is no comma-separated"),
        ("0;1 1:1", "'0;1' is no comma-separated"),
        ("0 1 1:1", "'1' is no feature:value pair"),
        (" 0 1:1", "'0' is no feature:value pair"),
        ("0,1:1 2:1", "'0,1:1' is no feature:value pair"),
    ],
)
def test_bad_labels(tmp_path, block_bytes, line, reason):
    with pytest.raises(ValueError, match=f"file.txt, line 3: {reason}"):
        read_bow_text(put(tmp_path, f"3 5 2\n0,1 2:1\n{line}\n0,1 0:1\n"))


@pytest.mark.parametrize(
    ("n", "line"),
    [(4, 5), (2, 4), (0, 2)],
)
def test_a_wrong_number_of_lines(tmp_path, block_bytes, n, line):
    reason = f"line {line}: the header announces {n} rows, but the file has 3"
    with pytest.raises(ValueError, match=reason):
        read_sparse_text(put(tmp_path, f"{n} 5\n0:1\n1:1\n2:1\n"))
    with pytest.raises(ValueError, match=reason):
        read_bow_text(put(tmp_path, f"{n} 5 5\n0 0:1\n1 1:1\n2 2:1\n"))


def test_surplus_lines_with_labels_only_are_noticed(tmp_path):
    with pytest.raises(ValueError, match="announces 1 rows, but the file has 2"):
        read_bow_text(put(tmp_path, "1 5 5\n0 0:1\n1\n"))


# ---------------------------------------------------------------- writing
def random_csr(rng, shape, density):
    return sp.csr_array(rng.normal(size=shape).astype(np.float32) * (rng.random(shape) < density))


@pytest.mark.parametrize("name", ["m.txt", "m.txt.gz"])
def test_sparse_text_round_trip_is_exact(tmp_path, name):
    rng = np.random.default_rng(0)
    matrix = random_csr(rng, (20_000, 9), 0.1)  # more rows than are formatted at a time
    matrix.data *= np.float32(10) ** rng.integers(-30, 30, matrix.nnz).astype(np.float32)
    matrix.data[:3] = [0, -1, np.finfo(np.float32).max]
    write_sparse_text(tmp_path / name, matrix)
    again = read_sparse_text(tmp_path / name)
    np.testing.assert_array_equal(again.indptr, matrix.indptr)
    np.testing.assert_array_equal(again.indices, matrix.indices)
    np.testing.assert_array_equal(again.data, matrix.data)


def test_bow_text_round_trip_and_form(tmp_path):
    x = sp.csr_array(np.array([[0.1, 0, 3], [0, 0, 0], [0, 2, 0]]))
    y = sp.csr_array(np.array([[1, 1], [0, 1], [0, 0]]))
    path = tmp_path / "a.txt"
    write_bow_text(path, x, y)
    assert path.read_text() == "3 3 2\n0,1 0:0.1 2:3.0\n1 \n 1:2.0\n"
    x2, y2 = read_bow_text(path)
    np.testing.assert_array_equal(x2.toarray(), x.toarray().astype(np.float32))
    np.testing.assert_array_equal(y2.toarray(), y.toarray())


def test_write_bow_text_needs_equal_rows(tmp_path):
    with pytest.raises(ValueError, match="`features` has 2 rows but `labels` has 3"):
        write_bow_text(tmp_path / "a.txt", sp.csr_array((2, 1)), sp.csr_array((3, 1)))


# ---------------------------------------------------------------- filters
def test_filter_text(tmp_path, block_bytes):
    path = put(tmp_path, "2 1\r\n0 3\n\n2 1\n1.0 0\n")
    pairs = read_filter_text(path, (3, 4))
    assert_canonical(pairs)
    np.testing.assert_array_equal(pairs.toarray(), [[0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]])
    write_filter_text(tmp_path / "b.txt", pairs)
    assert (tmp_path / "b.txt").read_text() == "0 3\n1 0\n2 1\n"
    assert read_filter_text(put(tmp_path, ""), (3, 4)).nnz == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1", "'1' is no 'sample label' pair"),
        ("1 2 0", "'1 2 0' is no 'sample label' pair"),
        ("1 x", "'1 x' is no 'sample label' pair"),
        ("1:2", "'1:2' is no 'sample label' pair"),
        ("3 0", "sample 3 is out of range: there are 3"),
        ("0 4", "label 4 is out of range: there are 4"),
        ("-1 0", "sample -1 is out of range"),
        ("0 0.5", "label 0.5 is out of range"),
    ],
)
def test_bad_filters(tmp_path, block_bytes, line, reason):
    with pytest.raises(ValueError, match=f"file.txt, line 4: {reason}"):
        read_filter_text(put(tmp_path, f"0 0\n\n1 1\n{line}\n2 2\n"), (3, 4))
