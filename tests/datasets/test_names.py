import numpy as np
import pytest
import scipy.sparse as sp

from skxc.datasets import labels_from_names, names_from_labels


def test_columns_are_the_sorted_names():
    y, names = labels_from_names([["pear", "fig"], [], ["fig", "fig"], ("kiwi",)])
    assert names == ["fig", "kiwi", "pear"]
    np.testing.assert_array_equal(y.toarray(), [[1, 0, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0]])
    assert y.format == "csr" and y.dtype == np.float32 and y.indices.dtype == np.int32
    assert y.has_sorted_indices


def test_given_names_fix_the_columns():
    y, names = labels_from_names(iter([{"b"}, {"a", "c"}]), names=("c", "b", "a", "unused"))
    assert names == ["c", "b", "a", "unused"]
    np.testing.assert_array_equal(y.toarray(), [[0, 1, 0, 0], [1, 0, 1, 0]])
    assert y.indices.tolist() == [1, 0, 2]


def test_round_trip_against_a_loop():
    rng = np.random.default_rng(0)
    lists = [rng.choice(list("abcdefgh"), size=rng.integers(0, 5)).tolist() for _ in range(50)]
    y, names = labels_from_names(lists)
    for i, row in enumerate(lists):
        for j, name in enumerate(names):
            assert y[i, j] == (name in row)
    assert names_from_labels(y, names) == [sorted(set(row)) for row in lists]


def test_no_samples():
    y, names = labels_from_names([])
    assert y.shape == (0, 0) and names == []
    assert names_from_labels(y, names) == []


def test_names_come_in_the_order_of_the_columns_whatever_the_storage():
    unsorted = sp.csr_array((np.ones(3), [2, 0, 1], [0, 2, 3]), shape=(2, 3))
    assert names_from_labels(unsorted, list("xyz")) == [["x", "z"], ["y"]]
    assert unsorted.indices.tolist() == [2, 0, 1]  # the input is left alone
    assert names_from_labels(np.array([[0, 1, 1]]), list("xyz")) == [["y", "z"]]


@pytest.mark.parametrize(
    ("lists", "names", "sentence"),
    [
        ([["a"], "bc"], None, "Sample 1 is the string 'bc'"),
        ([["a"], [3]], None, "Sample 1 has the label 3 of type int"),
        ([["a", None]], None, "label None of type NoneType"),
        ([["a"], None], None, "Sample 1 is None of type NoneType"),
        ([["a"], ["b"], float("nan")], None, "Sample 2 is nan of type float"),
        ([["a"], ["b", " a"]], None, "Sample 1 has the label ' a', which has blanks"),
        ([["a", ""]], None, "Sample 0 has the label '', which is empty"),
        ([["a\tb"]], None, "which holds a tab or a line break"),
        ([["a"]], ["a", "b\n"], r"`names` must hold names.*element 1, 'b\\n'"),
        ([["a"]], ["a", "b", "a"], "'a' is element 0 and element 2"),
        ([["a"], ["z", "y"]], ["a"], "2 label names .* for example 'y' of sample 1"),
    ],
)
def test_errors(lists, names, sentence):
    with pytest.raises(ValueError, match=sentence):
        labels_from_names(lists, names)


def test_names_of_the_wrong_number():
    with pytest.raises(ValueError, match="`names` has 2 names but `y` has 3 columns"):
        names_from_labels(sp.csr_array((1, 3)), ["a", "b"])


@pytest.mark.parametrize("lists", [None, 3, "ab", b"ab"])
def test_lists_that_are_none(lists):
    with pytest.raises(ValueError, match="`lists` must hold a list of names per sample"):
        labels_from_names(lists)
