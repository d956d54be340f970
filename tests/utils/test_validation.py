from collections import UserList, deque

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from sklearn.exceptions import DataConversionWarning

from skxc.utils._validation import as_csr, as_texts, check_target, holds_texts

INDICATOR = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]])


def repeated():
    """The indicator with an explicit zero stored beside a one."""
    return sp.csr_array(
        (np.array([1, 0, 1, 1, 0]), np.array([0, 0, 2, 1, 2]), np.array([0, 3, 3, 5])), shape=(3, 3)
    )


SPARSE = [
    sp.csr_array(INDICATOR),
    sp.csr_matrix(INDICATOR),
    sp.csc_array(INDICATOR),
    sp.coo_matrix(INDICATOR),
    repeated(),
    pd.DataFrame.sparse.from_spmatrix(sp.csr_matrix(INDICATOR)),
]
DENSE = [
    INDICATOR,
    INDICATOR.tolist(),
    INDICATOR.astype(object),
    pd.DataFrame(INDICATOR),
    pl.DataFrame(INDICATOR),
]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a"], True),
        (("a", 1), True),
        (np.array(["a"]), True),
        (np.array(["a"], dtype=object), True),
        (pd.Series(["a"], index=[7]), True),
        (pl.Series(["a"]), True),
        ([], False),
        ("a", False),
        ([["a"]], False),
        (np.array([["a"]]), True),
        (np.array([["a", "b"]]), False),
        (np.array([1.0]), False),
        (pd.DataFrame({"a": ["b"]}), True),
        (pd.DataFrame({"a": ["b"], "c": ["d"]}), False),
        (pl.DataFrame({"a": ["b"]}), True),
        (UserList(["a"]), True),
        (deque(["a"]), True),
        ([None, "a"], True),
        ([np.nan, "a"], True),
        ([b"a"], True),
        ({"a"}, False),
        (sp.csr_array(np.eye(2)), False),
        ({"a": 1}, False),
        (None, False),
    ],
)
def test_holds_texts(value, expected):
    assert holds_texts(value) is expected


def test_as_texts():
    texts = as_texts(np.array(["a", "bc"]), "X")
    assert texts.dtype == object
    assert [type(text) for text in texts] == [str, str]
    with pytest.raises(ValueError, match="`X` must hold strings only, but element 1 is a float"):
        as_texts(pd.Series(["a", np.nan], dtype=object), "X")
    with pytest.raises(ValueError, match="one string was given"):
        as_texts("abc", "X")


def test_as_csr_cleans_a_copy():
    matrix = sp.csr_array((np.array([1.0, 2, 0]), [1, 1, 0], [0, 2, 3]), shape=(2, 2))
    matrix.data.flags.writeable = False
    result = as_csr(matrix, "X")
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result.toarray(), [[0, 3], [0, 0]])
    assert (result.nnz, matrix.nnz) == (1, 3)


def test_as_csr_shares_what_is_clean():
    matrix = sp.csr_array(np.eye(3, dtype=np.float32))
    assert np.shares_memory(as_csr(matrix, "X").data, matrix.data)


@pytest.mark.parametrize("y", SPARSE, ids=lambda y: type(y).__name__)
def test_sparse_targets(y):
    target = check_target(y)
    np.testing.assert_array_equal(target.matrix.toarray(), INDICATOR)
    assert (target.matrix.nnz, target.matrix.dtype) == (3, np.float32)
    assert target.layout == "sparse"
    assert target.classes.tolist() == [0, 1, 2]


@pytest.mark.parametrize("y", DENSE, ids=lambda y: type(y).__name__)
def test_dense_targets(y):
    target = check_target(y)
    np.testing.assert_array_equal(target.matrix.toarray(), INDICATOR)
    assert target.layout == "dense"


@pytest.mark.parametrize("dtype", ["int8", "int64", "float32", "bool"])
def test_the_type_of_the_target_is_kept(dtype):
    assert check_target(sp.csr_array(INDICATOR.astype(dtype))).dtype == dtype
    assert check_target(INDICATOR.astype(dtype)).dtype == dtype


def test_the_target_is_not_changed():
    y = repeated()
    for array in (y.data, y.indices, y.indptr):
        array.flags.writeable = False
    check_target(y)
    assert y.nnz == 5


def test_column_names_become_label_names():
    assert check_target(pd.DataFrame(INDICATOR, columns=["a", "b", "c"])).names == ["a", "b", "c"]
    assert check_target(pd.DataFrame(INDICATOR)).names is None


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_one_label(kind):
    target = check_target(kind([[1], [0], [1]]))
    assert target.matrix.shape == (3, 1)
    assert target.layout != "classes"


def test_class_values():
    target = check_target(["b", "a", "b"])
    assert target.layout == "classes"
    assert target.classes.tolist() == ["a", "b"]
    np.testing.assert_array_equal(target.matrix.toarray(), [[0, 1], [1, 0], [0, 1]])


def test_a_column_of_class_values():
    with pytest.warns(DataConversionWarning):
        target = check_target(np.array([[0], [2], [0]]))
    assert target.classes.tolist() == [0, 2]


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
@pytest.mark.parametrize(
    ("value", "shown"), [(2.0, r"2\.0"), (0.5, r"0\.5"), (-1.0, r"-1\.0"), (np.nan, "nan|NaN")]
)
def test_other_values_are_refused(kind, value, shown):
    y = INDICATOR.astype(float)
    y[0, 0] = value
    with pytest.raises(ValueError, match=shown):
        check_target(kind(y))


def test_the_message_names_the_values_found():
    y = sp.csr_array(np.diag([2.0, 0.5, 1.0]))
    with pytest.raises(
        ValueError, match=r"`y` must be a binary indicator.*values 0\.5, 1\.0, 2\.0\."
    ):
        check_target(y)
    with pytest.raises(ValueError, match=r"values 1, 2, 3, 4, 5, \.\.\.\."):
        check_target(sp.csr_array(np.diag(np.arange(1, 9))))


def test_repeated_ones_add_up():
    y = sp.coo_array((np.ones(2), ([0, 0], [1, 1])), shape=(2, 2))
    with pytest.raises(ValueError, match=r"repeated sparse entries add up.*2\.0"):
        check_target(y)


@pytest.mark.parametrize(
    "y",
    [
        [[0, 2], [1], []],
        [["a", "b"], ["c", "d"]],
        [["a"], ["b"]],
        [("a",), ("b", "c")],
        [{"a"}, {"b"}],
        np.array([[1], [2, 3]], dtype=object),
        pd.Series([[1], [2, 3]]),
    ],
    ids=str,
)
def test_lists_of_labels_are_refused(y):
    with pytest.raises(TypeError, match=r"use MultiLabelBinarizer\(sparse_output=True\)"):
        check_target(y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed, but the target y is None"),
        ([0.5, 1.5, 2.5], "Unknown label type"),
        ([1.0, np.nan], "NaN"),
        (np.zeros((2, 0)), "no column"),
        (np.array([["a", "b"], ["a", "b"]]), "binary indicator.*values a, b"),
        (np.zeros((2, 2, 2)), "dim 3"),
        (sp.coo_array(np.ones(3)), r"but has \(3,\)"),
    ],
)
def test_other_targets_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        check_target(y)
