import gzip
import json

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.datasets._json_lines import read_json_lines, write_json_lines


def put(tmp_path, *records):
    path = tmp_path / "trn.json"
    lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_read_records_with_targets(tmp_path):
    path = put(
        tmp_path,
        {
            "uid": "B01",
            "title": "A",
            "content": "b c",
            "target_ind": [2, 0],
            "target_rel": [1.0, 1],
        },
        {"uid": 7, "title": "Dé", "target_ind": []},
        {
            "uid": "B03",
            "title": "",
            "content": "f",
            "target_ind": [3, 3, 1],
            "target_rel": [1, 1, 0],
        },
    )
    records = read_json_lines(path, with_targets=True)
    assert records.texts == ["A b c", "Dé", "f"]
    assert records.ids == ["B01", "7", "B03"]
    assert records.n_targets() == 4
    y = records.labels(5)
    assert isinstance(y, sp.csr_array) and y.dtype == np.float32 and y.indices.dtype == np.int32
    assert y.has_canonical_format
    np.testing.assert_array_equal(y.toarray(), [[1, 0, 1, 0, 0], [0] * 5, [0, 0, 0, 1, 0]])


def test_read_label_records(tmp_path):
    path = put(tmp_path, {"title": "A", "uid": "x"}, {"content": "B"})
    records = read_json_lines(path, with_targets=False)
    assert records.texts == ["A", "B"]
    assert records.ids is None  # the second record has none
    assert records.n_targets() == 0


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ('{"title": "A"', "no JSON object"),
        ("", "no JSON object"),
        ("[1]", "no JSON object, but a list"),
        ('{"title": null, "target_ind": []}', "`title` and `content` must be strings"),
        ('{"title": "A", "content": 3, "target_ind": []}', "`title` and `content` must be strings"),
        ('{"title": "A"}', "`target_ind` must be a list of label numbers"),
        ('{"title": "A", "target_ind": 3}', "`target_ind` must be a list of label numbers"),
        ('{"title": "A", "target_ind": [1.0]}', "`target_ind` must be a list of label numbers"),
        ('{"title": "A", "target_ind": [true]}', "`target_ind` must be a list of label numbers"),
        ('{"title": "A", "target_ind": [-1]}', "`target_ind` must lie between 0"),
        ('{"title": "A", "target_ind": [99999999999999999999]}', "`target_ind` must lie"),
        ('{"title": "A", "target_ind": [1], "target_rel": [NaN]}', "`target_rel` must be"),
        ('{"title": "A", "target_ind": [1], "target_rel": [-1]}', "`target_rel` must be"),
        ('{"title": "\\ud800", "target_ind": [1]}', "`title` and `content` must be strings"),
        ("[" * 100000, "no JSON object"),
        ('{"title": "A", "target_ind": ["1"]}', "`target_ind` must be a list of label numbers"),
        (
            '{"title": "A", "target_ind": [1], "target_rel": []}',
            "`target_rel` must be a list of 1 numbers",
        ),
        (
            '{"title": "A", "target_ind": [1], "target_rel": 1}',
            "`target_rel` must be a list of 1 numbers",
        ),
        ('{"title": "A", "target_ind": [1], "target_rel": ["1"]}', "`target_rel` must be a list"),
    ],
)
def test_malformed_records(tmp_path, record, reason):
    path = put(tmp_path, {"title": "fine", "target_ind": [0]}, record)
    with pytest.raises(ValueError, match=f"trn.json, line 2: {reason}"):
        read_json_lines(path, with_targets=True)


def test_a_label_out_of_range_names_the_line(tmp_path):
    path = put(
        tmp_path,
        {"title": "a", "target_ind": [0, 1]},
        {"title": "b", "target_ind": []},
        {"title": "c", "target_ind": [3, 1]},
    )
    records = read_json_lines(path, with_targets=True)
    with pytest.raises(ValueError, match=r"line 3: label 3 is out of range: there are 3"):
        records.labels(3)
    assert records.labels(4).nnz == 4


def test_encoding(tmp_path):
    path = tmp_path / "lbl.json"
    path.write_bytes('{"title": "été"}\n'.encode("latin-1"))
    with pytest.raises(ValueError, match="line 1: not utf-8"):
        read_json_lines(path, with_targets=False)
    assert read_json_lines(path, with_targets=False, encoding="latin-1").texts == ["été"]


def test_write(tmp_path):
    y = sp.csr_array(np.array([[0, 1, 1], [0, 0, 0]], dtype=np.float32))
    path = tmp_path / "trn.json.gz"
    write_json_lines(path, ["two\nlines", "b"], ["i", "j"], y)
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    assert json.loads(lines[0]) == {
        "uid": "i",
        "title": "two\nlines",
        "content": "",
        "target_ind": [1, 2],
        "target_rel": [1.0, 1.0],
    }
    again = read_json_lines(path, with_targets=True)
    assert again.texts == ["two\nlines", "b"] and again.ids == ["i", "j"]
    np.testing.assert_array_equal(again.labels(3).toarray(), y.toarray())
    write_json_lines(path, ["a"], None, None)
    assert json.loads(gzip.decompress(path.read_bytes())) == {"title": "a", "content": ""}
