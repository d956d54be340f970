"""Inputs of metrics: formats, ties, padding, filters, refusals."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.exceptions import UndefinedMetricWarning

from skxc.metrics import evaluate, precision_at_k, recall_at_k
from skxc.metrics._inputs import stored_in
from tests.metrics.naive import coo_to_csr, random_case, ranked_lists

TRUTH = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
SCORES = np.array([[0.9, 0.1, 0.8, 0.2], [0.3, 0.2, 0.1, 0.0], [0.5, 0.5, 0.5, 0.5]])

SPARSE = [
    sp.csr_array,
    sp.csr_matrix,
    sp.csc_array,
    sp.csc_matrix,
    sp.coo_array,
    sp.coo_matrix,
    sp.lil_array,
]


@pytest.mark.parametrize("convert", [*SPARSE, np.asarray, np.ndarray.tolist])
@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.float32, np.float64])
def test_every_format_of_truth_gives_one_value(convert, dtype):
    expected = evaluate(TRUTH, SCORES)
    assert evaluate(convert(TRUTH.astype(dtype)), SCORES) == expected


@pytest.mark.parametrize("convert", [*SPARSE, np.asarray, np.ndarray.tolist])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_format_of_scores_gives_one_value(convert, dtype):
    expected = evaluate(TRUTH, SCORES + 1)
    assert evaluate(TRUTH, convert((SCORES + 1).astype(dtype))) == expected


def test_data_frames_are_truth_and_scores():
    pd = pytest.importorskip("pandas")
    expected = evaluate(TRUTH, SCORES)
    assert evaluate(pd.DataFrame(TRUTH), pd.DataFrame(SCORES)) == expected
    sparse = pd.DataFrame.sparse.from_spmatrix(sp.csr_matrix(TRUTH))
    assert evaluate(sparse, SCORES) == expected


def test_label_ids_equal_the_scores_they_come_from():
    ids = np.argsort(-SCORES, axis=1, kind="stable")
    assert evaluate(TRUTH, (ids, SCORES)) == evaluate(TRUTH, SCORES)
    short, padded = ids[:, :3], np.pad(ids, ((0, 0), (0, 1)), constant_values=-1)
    for dtype in (np.int32, np.int64, np.uint8, np.float32, object):
        assert evaluate(TRUTH, short.astype(dtype), ks=[1, 3]) == evaluate(TRUTH, SCORES, ks=[1, 3])
    for dtype in (np.int32, float):
        assert evaluate(TRUTH, padded.astype(dtype)) == evaluate(TRUTH, SCORES)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.uint16, np.float32, object])
@pytest.mark.parametrize(
    "values", [[[0, 1], [1, 0]], [[1, 0], [1, 0]], [[0, 0], [1, 1]], [[0, 1], [0, 0]]]
)
def test_the_type_of_numbers_never_changes_what_they_mean(values, dtype):
    """Numbers of two labels are scores, whatever their type, or are refused; never label ids."""
    truth, scores = np.array([[0, 1], [1, 0]]), np.array(values)
    expected = precision_at_k(truth, scores.astype(float), 1)
    try:
        assert precision_at_k(truth, scores.astype(dtype), 1) == expected
    except ValueError as error:
        assert "may be scores or label ids" in str(error)
        assert dtype not in (bool, np.float32)


def test_votes_are_scores():
    votes = np.array([[7, 0, 9, 2], [1, 3, 3, 0], [0, 0, 0, 5]])
    assert evaluate(TRUTH, votes) == evaluate(TRUTH, votes.astype(float))


@pytest.mark.parametrize("value", [["a", "b"], [1j, 2j], [None, 1]])
def test_scores_must_be_numbers(value):
    with pytest.raises((ValueError, TypeError), match=r"must hold numbers|must be finite"):
        precision_at_k([[0, 1]], np.array([value]), 1)


@pytest.mark.parametrize("column", [-1, 4, 2**31 - 1])
@pytest.mark.parametrize("name", ["y_true", "y_score", "filter_pairs"])
def test_broken_matrices_are_refused(name, column):
    arguments = {"y_true": sp.csr_array(TRUTH), "y_score": sp.csr_array(SCORES)}
    broken = sp.csr_array(SCORES if name == "y_score" else TRUTH)
    broken.indices[1] = column
    shown = "`y`" if name == "y_true" else f"`{name}`"
    with pytest.raises(ValueError, match=f"{shown} must be a sparse matrix whose indices fit"):
        evaluate(**{**arguments, name: broken})


@pytest.mark.parametrize("k", [5, 1000, 2**31, 2**62])
def test_a_huge_k_takes_no_memory(k):
    names = ["precision", "recall", "ndcg", "coverage", "macro_f1", "psp", "psndcg"]
    weights = np.array([1.0, 2, 3, 4])
    found = evaluate(TRUTH, SCORES, ks=[k], metrics=names, inverse_propensity=weights)
    assert found[f"recall@{k}"] == found[f"psp@{k}"] == 1.0
    assert found[f"precision@{k}"] == pytest.approx(4 / 3 / k)
    expected = evaluate(TRUTH, SCORES, ks=[4], metrics=names, inverse_propensity=weights)
    for name in ("ndcg", "psndcg", "coverage", "macro_f1"):
        assert found[f"{name}@{k}"] == pytest.approx(expected[f"{name}@4"])


@pytest.mark.parametrize("seed", range(30))
def test_padded_ids_equal_csr_scores(seed):
    truth, scores, _ = random_case(seed)
    lists = ranked_lists(scores)
    ids = np.full((len(truth), truth.shape[1] + 2), -1)
    for row, ranked in enumerate(lists):
        ids[row, : len(ranked)] = [label for label, _ in ranked]
    assert evaluate(truth, ids) == evaluate(truth, scores)
    # Padding may stand anywhere: the order of the ids counts.
    np.testing.assert_equal(evaluate(truth, np.insert(ids, 0, -1, axis=1)), evaluate(truth, ids))


def test_ties_go_to_the_lower_label():
    flat = sp.csr_array(np.ones((1, 40)))
    for right in (0, 17, 39):
        truth = np.zeros((1, 40), dtype=int)
        truth[0, right] = 1
        for k in (1, 17, 18, 40):
            assert recall_at_k(truth, flat, k) == float(right < k)
            assert recall_at_k(truth, flat.toarray(), k) == float(right < k)


def test_absent_is_not_zero_and_stored_zeros_rank():
    truth = np.array([[0, 1, 0], [0, 0, 1]])
    scores = coo_to_csr([0, 0, 1], [1, 2, 2], [-5.0, -6.0, 0.0], (2, 3))
    assert precision_at_k(truth, scores, 1) == 1.0
    assert precision_at_k(truth, scores, 2) == 0.5


def test_duplicates_and_unsorted_columns_of_scores():
    # Row 0 holds label 2 twice (0.4 + 0.4) and label 0 once (0.5), out of order.
    scores = sp.csr_array((np.array([0.4, 0.5, 0.4]), np.array([2, 0, 2]), np.array([0, 3])))
    scores = sp.csr_array((scores.data, scores.indices, scores.indptr), shape=(1, 3))
    before = scores.data.copy(), scores.indices.copy()
    assert precision_at_k([[0, 0, 1]], scores, 1) == 1.0
    np.testing.assert_array_equal(scores.data, before[0])
    np.testing.assert_array_equal(scores.indices, before[1])


def test_inputs_may_be_read_only():
    truth, scores = sp.csr_array(TRUTH), sp.csr_array(SCORES)
    expected = evaluate(truth, scores)
    for matrix in (truth, scores):
        for part in (matrix.data, matrix.indices, matrix.indptr):
            part.flags.writeable = False
    assert evaluate(truth, scores, filter_pairs=sp.csr_array((3, 4))) == expected


@pytest.mark.parametrize("dtype", [bool, np.int64])
def test_hard_predictions_are_ties(dtype):
    hard = np.array([[0, 1, 0, 1]]).astype(dtype)
    truth = [[0, 0, 0, 1]]
    assert precision_at_k(truth, sp.csr_array(hard), 1) == 0.0
    assert precision_at_k(truth, sp.csr_array(hard), 2) == 0.5


def test_scores_beyond_float32_still_rank():
    scores = np.array([[1.0, 1.0 + 1e-12, 1.0 - 1e-12]])
    for form in (scores, sp.csr_array(scores)):
        result = evaluate([[0, 1, 0]], form, ks=(1, 3), metrics=["precision"])
        assert result["precision@1"] == 1.0


def test_k_beyond_the_number_of_labels_counts_misses():
    assert precision_at_k([[1, 1]], np.array([[0.1, 0.2]]), 5) == pytest.approx(2 / 5)
    assert recall_at_k([[1, 1]], np.array([[0.1, 0.2]]), 5) == 1.0


def test_filtered_pairs_leave_the_ranking():
    pairs = coo_to_csr([1], [0], [0.0], TRUTH.shape)  # an explicit zero still names a pair
    assert precision_at_k(TRUTH, SCORES, 1) == pytest.approx(1 / 3)
    ids = np.argsort(-SCORES, axis=1, kind="stable")
    for scores in (SCORES, sp.csr_array(SCORES), (ids, SCORES)):
        assert precision_at_k(TRUTH, scores, 1, filter_pairs=pairs) == pytest.approx(2 / 3)


def test_dense_scores_look_beyond_filtered_pairs():
    scores = np.arange(6.0)[None]
    pairs = sp.csr_array(np.array([[0, 0, 1, 1, 1, 1]]))
    assert precision_at_k([[0, 1, 0, 0, 0, 0]], scores, 1, filter_pairs=pairs) == 1.0


def test_filter_that_overlaps_the_truth_warns_with_the_number():
    with pytest.warns(UserWarning, match="holds 2 of the 4 pairs") as caught:
        precision_at_k(TRUTH, SCORES, 1, filter_pairs=sp.csr_array(TRUTH * [[1], [0], [0]]))
    assert caught[0].filename == __file__


def test_no_positive_at_all_is_zero_with_a_warning():
    truth = sp.csr_array((3, 4))
    for drop in (False, True):
        with pytest.warns(UndefinedMetricWarning, match="No row of `y_true` has a label"):
            result = evaluate(truth, SCORES, inverse_propensity=np.ones(4), drop_empty_rows=drop)
        assert set(result.values()) == {0.0}
    with pytest.warns(UndefinedMetricWarning) as caught:
        precision_at_k(truth, SCORES)
    assert caught[0].filename == __file__


def test_no_rows_and_no_predictions():
    with pytest.warns(UndefinedMetricWarning):
        assert precision_at_k(sp.csr_array((0, 4)), sp.csr_array((0, 4))) == 0.0
    assert precision_at_k(TRUTH, sp.csr_array(TRUTH.shape)) == 0.0
    assert precision_at_k(TRUTH, np.full((3, 2), -1)) == 0.0
    assert precision_at_k(TRUTH, np.zeros((3, 0), dtype=int)) == 0.0


def test_empty_rows_count_or_are_dropped_and_are_reported(caplog):
    truth = np.vstack([TRUTH, np.zeros((1, 4), dtype=int)])
    scores = np.vstack([SCORES, SCORES[:1]])
    with caplog.at_level(logging.INFO, logger="skxc"):
        kept = precision_at_k(truth, scores, 1)
        dropped = precision_at_k(truth, scores, 1, drop_empty_rows=True)
    assert kept == pytest.approx(1 / 4)
    assert dropped == pytest.approx(1 / 3)
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 4 rows have no label and count as misses",
        "1 of 4 rows have no label and were dropped",
    ]


def test_ordinary_inputs_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(TRUTH, SCORES, filter_pairs=sp.csr_array(TRUTH.shape))


@pytest.mark.parametrize("value", [2, 0.5, -1, np.nan])
@pytest.mark.parametrize("convert", [np.asarray, sp.csr_array, sp.coo_array])
def test_truth_other_than_zero_and_one_is_refused(value, convert):
    truth = TRUTH.astype(float)
    truth[0, 0] = value
    with pytest.raises(ValueError, match=r"binary indicator|NaN"):
        precision_at_k(convert(truth), SCORES)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("convert", [np.asarray, sp.csr_array])
def test_scores_that_are_not_finite_are_refused(bad, convert):
    scores = SCORES.copy()
    scores[1, 2] = bad
    with pytest.raises(ValueError, match=r"`y_score` must be finite. Got 1 NaN"):
        precision_at_k(TRUTH, convert(scores))


def test_refusals_name_the_argument():
    def refuses(match, *arguments, **keywords):
        with pytest.raises(ValueError, match=match):
            precision_at_k(*arguments, **keywords)

    refuses(
        r"`y_score` must have the shape of `y_true`, \(3, 4\). Got \(3, 3\)", TRUTH, SCORES[:, :3]
    )
    refuses(r"Got \(2, 4\)", TRUTH, sp.csr_array(SCORES[:2]))
    refuses(r"Got \(4,\)", TRUTH, SCORES[0])
    refuses("one row of label ids per row", TRUTH, np.array([[0, 1]]))
    refuses("label ids from 0 to 3", TRUTH, np.array([[0, 1], [2, 4], [0, 1]]))
    refuses("label ids from 0 to 3", TRUTH, np.array([[0, 1], [2, -2], [0, 1]]))
    refuses(
        "name a label once per row. Got 1 repetitions", TRUTH, np.array([[0, 1], [2, 2], [0, 1]])
    )
    refuses("may be scores or label ids", TRUTH, np.argsort(-SCORES, axis=1))
    refuses("one value per sample", [0, 1, 2], SCORES)
    refuses("`filter_pairs` must have the shape", TRUTH, SCORES, filter_pairs=sp.csr_array((3, 3)))
    for k in (0, -1, 2.0, True, None, "5"):
        refuses("`k` must be an integer of at least 1", TRUTH, SCORES, k)


def test_stored_in_against_sets():
    rng = np.random.default_rng(0)
    for _ in range(20):
        one, other = (sp.csr_array(rng.random((7, 5)) < 0.4) for _ in range(2))
        pairs = set(zip(*(c.tolist() for c in other.tocoo().coords), strict=True))
        coo = one.tocoo()
        expected = [pair in pairs for pair in zip(*(c.tolist() for c in coo.coords), strict=True)]
        assert stored_in(one, other).tolist() == expected


def test_complex_scores_are_refused():
    scores = sp.csr_array(np.eye(2) * (1 + 2j))
    with pytest.raises(ValueError, match="`y_score` must be a matrix of real numbers"):
        precision_at_k(sp.eye_array(2, format="csr"), scores, k=1)
