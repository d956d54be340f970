import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import expit, logit

from skxc.fusion import collect_candidates, learn_combiner, make_objective
from skxc.fusion._candidates import lowest_scores
from skxc.fusion._combiner import Evidence, combine
from skxc.fusion._learn import Choice, choose, standard_error
from skxc.metrics import inverse_propensity, precision_at_k, psp_at_k
from skxc.utils._sparse import top_k

N_LABELS = 20
# All labels are relevant equally often in the planted rows.
ALIKE = np.full(N_LABELS, 50)


def held_out(n=300, seed=0, noise=(1.0, 1.0), k=10):
    """Return (lists, truth): models that see the log-odds of relevance through noise."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(size=(n, N_LABELS)) * 2 - 2
    truth = rng.random((n, N_LABELS)) < expit(odds)
    lists = [
        top_k(odds * (m + 1) + s * rng.normal(size=odds.shape), k) for m, s in enumerate(noise)
    ]
    return lists, sp.csr_array(truth.astype(np.float32))


def learn(lists, truth, objective="precision@1", frequency=ALIKE, **options):
    return learn_combiner(
        collect_candidates(lists, N_LABELS),
        truth,
        objective=make_objective(objective),
        label_frequency=frequency,
        inverse_propensity=inverse_propensity(frequency, 1000),
        floors=lowest_scores(lists),
        **options,
    )


def answers(learned, lists, k=5, frequency=ALIKE):
    """Return the k best labels of every row by a learned rule."""
    candidates = collect_candidates(lists, N_LABELS, learned.combiner.floors)
    weight = np.log(inverse_propensity(frequency, 1000))[candidates.labels]
    dense = np.full((candidates.n_rows, N_LABELS), -np.inf)
    scores = learned.combiner.score(candidates, frequency, weight)
    dense[candidates.rows, candidates.labels] = scores
    return top_k(np.where(np.isinf(dense), -1e9, dense), k)[0]


def evidence(p, trees=None, unseen=(False, False), judged=(True, True)):
    return Evidence(np.array(p), trees, np.array(unseen), np.array(judged))


def test_combine_by_hand():
    p = [[0.2, 0.4], [0.9, 0.1]]
    shares, weight, trees = np.array([0.25, 0.75]), np.array([0.5, 2.0]), np.array([1.0, -1.0])
    mixed = logit(np.array([0.35, 0.3]))
    np.testing.assert_allclose(combine(evidence(p), weight, shares, 0.0, 0.5), mixed)
    np.testing.assert_allclose(
        combine(evidence(p, trees), weight, shares, 0.3, 0.4),
        0.6 * mixed + 0.4 * trees + 0.3 * weight,
    )


def test_labels_without_rows_by_hand():
    """The loudest model that has a share speaks alone; the trees count if they can judge."""
    p = [[0.2, 0.4, 0.8], [0.9, 0.1, 0.95]]
    shares, trees = np.array([0.25, 0.75, 0.0]), np.array([1.0, -1.0])
    loudest = logit(np.array([0.35, 0.9]))
    unseen = evidence(p, trees, unseen=(False, True))
    np.testing.assert_allclose(combine(unseen, np.zeros(2), shares, 0.0, 0.0), loudest)
    np.testing.assert_allclose(
        combine(unseen, np.zeros(2), shares, 0.0, 0.4), 0.6 * loudest + 0.4 * trees
    )
    silent = evidence(p, trees, unseen=(False, True), judged=(True, False))
    np.testing.assert_allclose(
        combine(silent, np.zeros(2), shares, 0.0, 0.4), [0.6 * loudest[0] + 0.4, loudest[1]]
    )


@pytest.mark.parametrize(("n", "judges"), [(30, False), (600, True)])
def test_trees_judge_unseen_labels_where_enough_of_them_are_right(n, judges):
    lists, truth = held_out(n=n)
    frequency = np.where(np.arange(N_LABELS) == 3, 0, 50)
    n_right = truth[:, [3]].nnz
    assert (n_right >= 20) == judges
    learned = learn(lists, truth, frequency=frequency, trees=True)
    assert learned.combiner.judges_unseen == judges


@pytest.mark.parametrize("trees", [False, True])
def test_two_views_are_better_than_one(trees):
    lists, truth = held_out(n=600, noise=(3.0, 6.0))
    learned = learn(lists, truth, trees=trees)
    test_lists, test_truth = held_out(n=2000, seed=9, noise=(3.0, 6.0))
    fused = precision_at_k(test_truth, answers(learned, test_lists), 1)
    alone = [precision_at_k(test_truth, labels[:, :5], 1) for labels, _ in test_lists]
    assert fused > max(alone) + 0.02


@pytest.mark.parametrize("trees", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_a_useless_model_does_no_harm(seed, trees):
    lists, truth = held_out(n=400, seed=seed, noise=(0.5, 60.0))
    learned = learn(lists, truth, trees=trees)
    test_lists, test_truth = held_out(n=2000, seed=100 + seed, noise=(0.5, 60.0))
    fused = precision_at_k(test_truth, answers(learned, test_lists), 1)
    alone = precision_at_k(test_truth, test_lists[0][0][:, :5], 1)
    assert fused > alone - 0.02


@pytest.mark.parametrize("trees", [False, True])
def test_never_worse_on_the_held_out_rows_by_more_than_the_noise(trees):
    for seed in range(6):
        lists, truth = held_out(n=80, seed=seed, noise=(0.5, 6.0))
        learned = learn(lists, truth, trees=trees)
        p = learned.member_objectives.max()
        assert learned.objective >= p - 2 * np.sqrt(2 * p * (1 - p) / 79)


def test_alike_models_keep_equal_shares():
    lists, truth = held_out(n=300)
    learned = learn([lists[0], lists[0], lists[0]], truth)
    np.testing.assert_allclose(learned.combiner.shares, 1 / 3)


def test_objectives_of_members_are_their_metrics():
    lists, truth = held_out()
    learned = learn(lists, truth)
    expected = [precision_at_k(truth, labels[:, :5], 1) for labels, _ in lists]
    # Cross-fitted calibrators differ between folds of rows only, never inside a row.
    np.testing.assert_allclose(learned.member_objectives, expected)


def test_the_metric_that_was_asked_for():
    lists, truth = held_out(n=800, noise=(3.0, 3.0))
    frequency = np.where(np.arange(N_LABELS) % 2, 500, 1)
    weight = inverse_propensity(frequency, 1000)
    plain, tail = (learn(lists, truth, f"{name}@1", frequency) for name in ("ndcg", "psp"))
    assert tail.combiner.tilt > plain.combiner.tilt
    other, other_truth = held_out(n=3000, seed=3, noise=(3.0, 3.0))
    scores = [
        psp_at_k(other_truth, answers(rule, other, frequency=frequency), weight, 1)
        for rule in (plain, tail)
    ]
    assert scores[1] > scores[0]


def test_cross_fitted_scores_are_not_fitted_to_their_rows():
    """Trees on pure noise: fitted scores would tell hits apart, cross-fitted ones cannot."""
    rng = np.random.default_rng(0)
    lists = [top_k(rng.normal(size=(400, N_LABELS)), N_LABELS) for _ in range(2)]
    truth = sp.csr_array((rng.random((400, N_LABELS)) < 0.3).astype(np.float32))
    learned = learn(lists, truth, trees=True)
    candidates = collect_candidates(lists, N_LABELS)
    hits = truth.toarray()[candidates.rows, candidates.labels] > 0
    gap = learned.scores[hits].mean() - learned.scores[~hits].mean()
    assert abs(gap) < 0.1 * learned.scores.std()
    weight = np.zeros(len(hits))
    fitted = learned.combiner.score(candidates, ALIKE, weight)
    assert fitted[hits].mean() - fitted[~hits].mean() > 0.2 * fitted.std()


def test_given_shares_are_kept():
    lists, truth = held_out()
    learned = learn(lists, truth, shares=np.array([1.0, 3.0]))
    assert learned.combiner.shares.tolist() == [0.25, 0.75]
    assert learned.combiner.tilt == 0


def test_without_search_nothing_is_chosen():
    lists, truth = held_out(noise=(0.5, 60.0))
    learned = learn(lists, truth, trees=True, search=False)
    assert learned.combiner.shares.tolist() == [0.5, 0.5]
    assert learned.combiner.trees is None


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_rows(n):
    lists, truth = held_out(n=n)
    learned = learn(lists, truth, trees=True)
    assert np.isfinite(learned.scores).all()
    assert learned.combiner.shares.sum() == pytest.approx(1)


def test_weights_of_rows_are_repetitions():
    lists, truth = held_out(n=40)
    weight = np.random.default_rng(0).integers(1, 4, size=40).astype(float)
    values = np.random.default_rng(1).normal(size=40)
    repeated = np.repeat(values, weight.astype(int))
    assert np.average(values, weights=weight) == pytest.approx(repeated.mean())
    learned = learn(lists, truth, row_weight=weight)
    hits = truth.toarray()[np.arange(40), lists[0][0][:, 0]]
    assert learned.member_objectives[0] == pytest.approx(np.average(hits, weights=weight))


def test_standard_error():
    values = np.random.default_rng(0).normal(size=50)
    expected = values.std(ddof=1) / np.sqrt(50)
    assert standard_error(values, np.ones(50)) == pytest.approx(expected)
    assert standard_error(values, np.full(50, 7.0)) == pytest.approx(expected)
    assert standard_error(values[:1], np.ones(1)) == np.inf


def test_shrinking_goes_as_far_as_two_standard_errors():
    """The objective rises to a share of 3/4, then falls; its noise decides how far."""
    start = Choice(np.array([0.5, 0.5]), 0.0, 0.0)

    def objective(share):
        return min(share, 1.5 - share)  # of both shares 1/2, and of the better model alone: 1/2

    # At a loss of d the standard error is d * spread / sqrt(99).
    for spread, expected in ((0.0, 0.75), (4.5, 0.75), (5.5, 0.5), (100.0, 0.5)):
        row = 1 + np.resize([spread, -spread], 100)
        found = choose(lambda c, r=row: objective(c.shares[0]) * r, start, False, np.ones(100))
        assert found.shares.tolist() == [expected, 1 - expected]


@pytest.mark.parametrize("slope", [0.01, 1.0])
def test_shrinking_ends_at_the_best_single_model(slope):
    """However large the noise: what is behind a model alone is no better guess than the model."""
    start = Choice(np.array([0.5, 0.5]), 0.0, 0.0)
    row = 1 + np.resize([100.0, -100.0], 100)
    found = choose(lambda c: slope * c.shares[0] * row, start, False, np.ones(100))
    assert found.shares.tolist() == [1, 0]
