import copy
import pickle
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV

import skxc
from skxc import LabelTexts, UnifiedXC
from skxc.base import TrainingSet
from skxc.datasets import make_planted_xc
from skxc.encoders import BagEncoder, FrozenEncoder
from skxc.exceptions import LabelTextWarning
from skxc.losses import DecoupledSoftmax
from skxc.metrics import ece_at_k, inverse_propensity, ndcg_at_k, psndcg_at_k
from skxc.metrics._weighted import values_at_k
from skxc.negatives import AllLabels, InBatch, Mined
from skxc.utils._sparse import normalize_rows
from tests.toys import assert_same_model

torch = pytest.importorskip("torch")

from skxc import _model  # noqa: E402
from skxc.estimators import _unified  # noqa: E402
from skxc.estimators._unified import LabelPool, LabelTable, TwoHeads  # noqa: E402
from skxc.estimators._unified.pool import batches_of, negatives_of  # noqa: E402
from skxc.estimators._unified.task import UnifiedTask  # noqa: E402
from skxc.training import Checkpoint  # noqa: E402


def quick(**params):
    """Return an estimator that trains in a moment, with these parameters, also of its parts."""
    small = {
        "n_epochs": 6,
        "random_state": 0,
        "batch_size": 32,
        "pool__size": 24,
        "pool__refresh_every": 2,
        "heads__dim": 24,
        "encoder": BagEncoder(dim=32),
    }
    return UnifiedXC().set_params(**{**small, **params})


def fit(data, **params):
    """Return a quickly trained model, without the second training of small data."""
    return quick(calibration="held_out", **params).fit(
        data.train_texts, data.train_labels, label_features=data.label_texts
    )


@pytest.fixture(scope="module")
def model(planted):
    return fit(planted, n_epochs=12)


def state_of(model):
    """Return everything a model holds, as one comparable value."""
    return pickle.dumps(model.__getstate__())


def all_scores(model, texts, **params):
    """Return the scores of all labels as a dense array."""
    model = copy.deepcopy(model).set_params(**params)
    labels, scores = model.predict_topk(texts, model.n_labels_)
    full = np.empty_like(scores)
    np.put_along_axis(full, labels.astype(np.int64), scores, axis=1)
    return full


# ---- learning


def test_it_learns_what_label_words_mean():
    """Samples and labels share no word, so everything has to be learned."""
    data = make_planted_xc(300, 40, n_test=150, unseen_fraction=0.0, random_state=0)
    untrained = fit(data, learning_rate=1e-9, label_table__start="text")
    trained = fit(data, n_epochs=15)
    for head in ("both", "dual_encoder", "classifier"):
        before, after = (
            m.set_params(heads__prediction=head).score(data.test_texts, data.test_labels)
            for m in (untrained, trained)
        )
        assert before < 0.25
        assert after > 0.55


@pytest.mark.parametrize(
    "params",
    [
        {"loss": "softmax"},
        {"loss": "balanced"},
        {"heads__symmetric": True},
        {"pool__n_negatives": 0},
        {"pool__clustered": False},
        {"pool__n_positives": 1},
        {"pool__size": 1000},
        {"label_table__start": "random", "label_table__similarity": "dot"},
        {"label_table__dtype": "bfloat16"},
        {"training__max_grad_norm": 1.0, "label_table__dropout": 0.3},
    ],
    ids=str,
)
def test_all_variants_learn(planted, params):
    model = fit(planted, n_epochs=10, **params)
    assert model.score(planted.test_texts, planted.test_labels) > 0.6


def test_each_head_has_its_job_and_both_together_keep_up_with_the_better():
    """Texts carry rare labels; where texts say nothing, frequent labels need their own vectors."""
    gaps = {"tail": [], "head": [], "both": []}
    for seed in range(3):
        data = make_planted_xc(
            500,
            60,
            n_test=600,
            vocabulary_gap=0.0,
            tail=1.2,
            unseen_fraction=0.0,
            random_state=seed,
        )
        frequency = np.asarray(data.train_labels.sum(axis=0)).ravel()
        rare, frequent = (np.flatnonzero(f) for f in (frequency <= 3, frequency >= 15))
        rng = np.random.default_rng(seed)
        texts = list(data.label_texts)
        for label in frequent:  # their texts name two topics of other labels
            texts[label] = data.label_texts[rng.integers(60)]
        model = quick(random_state=seed, n_epochs=12, label_table__start="random").fit(
            data.train_texts, data.train_labels, label_features=texts
        )
        scores = {}
        for head in ("both", "dual_encoder", "classifier"):
            best = model.set_params(heads__prediction=head).predict_topk(data.test_texts, 1)[0][
                :, 0
            ]
            right = best == data.test_sources
            for part, labels in (("tail", rare), ("head", frequent), ("all", np.arange(60))):
                scores[head, part] = right[np.isin(data.test_sources, labels)].mean()
        gaps["tail"].append(scores["dual_encoder", "tail"] - scores["classifier", "tail"])
        gaps["head"].append(scores["classifier", "head"] - scores["dual_encoder", "head"])
        better = max(scores["dual_encoder", "all"], scores["classifier", "all"])
        gaps["both"].append(scores["both", "all"] - better)
    assert np.mean(gaps["tail"]) > 0.1
    assert np.mean(gaps["head"]) > 0.05
    assert np.mean(gaps["both"]) > -0.01


def test_labels_without_rows_are_ranked_by_their_text(planted, model):
    unseen = np.flatnonzero(model.label_frequency_ == 0)
    rows = np.flatnonzero(np.isin(planted.test_sources, unseen))
    assert len(rows) > 5
    best = model.predict_topk([planted.test_texts[row] for row in rows], 5)[0]
    found = [planted.test_sources[row] in labels for row, labels in zip(rows, best, strict=True)]
    assert np.mean(found) > 0.5


def test_label_vectors_of_labels_without_rows_end_halfway_to_their_texts(planted, monkeypatch):
    """Training only pushed them away from samples."""
    trained = []
    vectors = UnifiedTask.prediction_vectors
    monkeypatch.setattr(
        UnifiedTask,
        "prediction_vectors",
        lambda self, out: (vectors(self, out), trained.append(self.table.to_numpy()))[0],
    )
    model = fit(planted)
    unseen = np.flatnonzero(model.label_frequency_ == 0)
    assert len(unseen)
    text = np.split(embedded(model, planted.label_texts), 2, axis=1)[1]
    expected = normalize_rows(trained[0])
    expected[unseen] = normalize_rows(expected[unseen] + text[unseen])
    np.testing.assert_allclose(model.classifier_weights_, expected, atol=1e-5)
    faithful = fit(planted, label_table__start="random")
    np.testing.assert_allclose(faithful.classifier_weights_, normalize_rows(trained[1]), atol=1e-5)


def embedded(model, texts):
    """Return the vectors of texts by both heads."""
    return model.model_.embed(np.array(texts, dtype=object))


def test_label_vectors_start_at_rows_or_texts_or_anywhere(planted, monkeypatch):
    monkeypatch.setattr(_unified.task, "ROWS_AT_ONCE", 77)  # centroids come block by block
    weight = np.random.default_rng(0).integers(1, 4, len(planted.train_texts))

    def started(start):
        still = {"learning_rate": 1e-12, "n_epochs": 1, "calibration": None}
        return quick(**still, label_table__start=start).fit(
            planted.train_texts,
            planted.train_labels,
            label_features=planted.label_texts,
            sample_weight=weight,
        )

    model = started("text")
    text, label = np.split(embedded(model, planted.label_texts), 2, axis=1)
    np.testing.assert_allclose(model.label_embeddings_, text, atol=1e-5)
    np.testing.assert_allclose(model.classifier_weights_, label, atol=1e-5)
    cosine = (started("random").classifier_weights_ * label).sum(axis=1)
    assert abs(cosine.mean()) < 0.2
    rows = np.split(embedded(model, planted.train_texts), 2, axis=1)[1]
    expected, y = label.copy(), planted.train_labels.toarray()
    for number in np.flatnonzero(y.any(axis=0)):
        own = y[:, number] > 0
        expected[number] = np.average(rows[own], axis=0, weights=weight[own])
    expected = normalize_rows(expected)
    assert np.abs(expected - label).max() > 0.1
    np.testing.assert_allclose(started("rows").classifier_weights_, expected, atol=1e-5)


# ---- prediction


def test_both_heads_give_the_sum_of_their_scores(planted, model):
    texts = planted.test_texts[:20]
    both, text, label = (
        all_scores(model, texts, heads__prediction=head, fusion="sum")
        for head in ("both", "dual_encoder", "classifier")
    )
    np.testing.assert_allclose(both, text + label, rtol=1e-4, atol=1e-5)
    queries = model.transform(texts)
    sides = model.label_vectors_[:, :-1]
    np.testing.assert_allclose(queries @ sides.T, both, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(queries[:, :24] @ model.label_embeddings_.T, text, atol=1e-5)
    np.testing.assert_allclose(queries[:, 24:] @ model.classifier_weights_.T, label, atol=1e-5)
    for vectors in (queries, sides):
        for half in np.split(vectors, 2, axis=1):
            np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, rtol=1e-5)
    orders = {tuple(scores.argsort(axis=1).ravel()) for scores in (both, text, label)}
    assert len(orders) == 3, "three different rankings"


def test_learned_fusion_weighs_text_and_frequency(planted, model, trainings):
    text, label = (
        all_scores(model, planted.test_texts, heads__prediction=head)
        for head in ("dual_encoder", "classifier")
    )
    fit(planted, n_epochs=1)
    frequent = np.log1p(trainings[0].data.label_frequency) / 18
    changed = copy.copy(model)
    for weights in ((0.0, 0.0), (0.75, 0.5), (0.3, -1.0)):
        changed.model_ = replace(model.model_, fusion_weights=np.array(weights))
        expected = label + weights[0] * text + weights[1] * frequent
        np.testing.assert_allclose(
            all_scores(changed, planted.test_texts), expected, rtol=1e-4, atol=1e-5
        )


@pytest.fixture
def trainings(monkeypatch):
    """Return a list of all trainings from now on: their rows and held-out rows."""
    seen, train = [], UnifiedXC._train
    monkeypatch.setattr(UnifiedXC, "_train", lambda self, fit: seen.append(fit) or train(self, fit))
    return seen


def test_the_learned_weights_are_the_best_of_the_grid_up_to_noise(trainings, monkeypatch):
    """Against a loop over all labels and weights."""
    data = make_planted_xc(400, 50, n_test=10, vocabulary_gap=0.0, random_state=2)
    model, y = fit(data, n_epochs=5), data.train_labels
    rows = trainings[0].held_out
    assert 20 < rows.n_samples < 100
    frequency = np.asarray(y.sum(axis=0) - rows.y.sum(axis=0)).ravel()
    rarity = inverse_propensity(frequency, 400 - rows.n_samples)
    text, label = (
        all_scores(model, rows.X, heads__prediction=head) for head in ("dual_encoder", "classifier")
    )

    def quality(weights):
        scores = label + weights[0] * text + weights[1] * np.log1p(frequency) / 18
        best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        return ndcg_at_k(rows.y, best) + psndcg_at_k(rows.y, best, rarity)

    used = model.fusion_weights_
    monkeypatch.setattr(_unified.model, "N_ERRORS", 0)
    exact = model.model_.with_best_weights(rows).fusion_weights
    best = max(quality((u, v)) for u, v in weight_grid())
    assert quality(exact) == pytest.approx(best, abs=1e-6)
    assert quality(used) >= quality(_unified.model.USUAL_WEIGHTS) - 1e-6


def weight_grid():
    return list(product(_unified.model.TEXT_WEIGHTS, _unified.model.FREQUENCY_WEIGHTS))


def test_learned_weights_are_as_close_to_the_usual_ones_as_noise_allows(model, monkeypatch):
    """By loops, on scores of 300 rows where nDCG alone would choose other weights."""
    rng = np.random.default_rng(0)
    n, L, module = 300, 40, _unified.model
    frequency = rng.integers(1, 60, L)
    y = (rng.random((n, L)) < 0.04 + 0.2 * frequency / frequency.sum()).astype(np.float32)
    y[np.arange(n), rng.integers(L, size=n)] = 1
    label, text = (a * y + rng.normal(0, b, (n, L)) for a, b in ((0.25, 0.2), (0.2, 0.3)))
    third = np.tile(np.log1p(frequency) / 18, (n, 1))
    scores = np.stack([label, text, third], axis=2).reshape(-1, 3).astype(np.float32)
    pairs = np.repeat(np.arange(n), L), np.tile(np.arange(L), n)
    monkeypatch.setattr(module.UnifiedModel, "_trial_scores", lambda *_: (*pairs, scores))
    weight = rng.integers(1, 4, n).astype(float)
    matrix = model.model_.labels.matrix.copy()
    matrix[:, -1] = np.log1p(frequency) / 18
    trained = replace(model.model_, labels=replace(model.model_.labels, matrix=matrix))
    total = {"n_samples_fit_": 400 + weight.sum()}
    rows = TrainingSet(np.zeros(n), sp.csr_array(y), weight, attributes=total)
    rarity = inverse_propensity(frequency, 400)

    def values(weights):
        """Return nDCG@5 and PSnDCG@5 of every row alone."""
        best = np.argsort(-(scores @ [1, *weights]).reshape(n, L), axis=1, kind="stable")[:, :5]
        parts = [np.zeros(n), np.zeros(n), np.zeros(n)]
        for row, gain, hits in zip(range(n), y, np.take_along_axis(y, best, 1), strict=True):
            discount = 1 / np.log2(np.arange(2, 7))
            ideal = discount[: int(gain.sum())].sum()
            heaviest = np.sort(rarity * gain)[::-1][:5]
            parts[0][row] = hits @ discount / ideal
            parts[1][row] = (hits * rarity[best[row]]) @ discount / ideal
            parts[2][row] = heaviest @ discount / ideal
        return parts[0], parts[1] / np.average(parts[2], weights=weight)

    def mean(array):
        return np.average(array, weights=weight)

    found = {pair: values(pair) for pair in weight_grid()}
    best = max(found, key=lambda pair: mean(sum(found[pair])))
    assert best != max(found, key=lambda pair: mean(found[pair][0]))
    usual, way, chosen = np.array(module.USUAL_WEIGHTS), np.subtract(best, module.USUAL_WEIGHTS), []
    for n_errors in (0, 0.5, 1, 2, 3, 1e9):
        monkeypatch.setattr(module, "N_ERRORS", n_errors)
        for step in (0, 0.25, 0.5, 0.75, 1):
            loss = sum(found[best]) - sum(values(usual + step * way))
            share = weight / weight.sum()
            error = np.sqrt(share @ (loss - mean(loss)) ** 2 / (1 / (share**2).sum() - 1))
            if mean(loss) <= n_errors * error + 1e-9:
                break
        chosen.append(step)
        weights = trained.with_best_weights(rows).fusion_weights
        np.testing.assert_allclose(weights, usual + step * way, atol=1e-12)
    assert chosen[0] == 1
    assert chosen[-1] == 0
    assert len(set(chosen)) > 2


def test_a_rows_own_label_is_no_miss_where_weights_are_learned(planted, model, monkeypatch):
    rows = np.array(planted.test_texts[:5], dtype=object)
    y = sp.csr_array(planted.test_labels[:5])
    labels = np.array(planted.label_texts, dtype=object)
    own = np.flatnonzero(y[[2]].toarray()[0] == 0)[3]
    labels[own] = rows[2]
    seen = []

    def record(metric, y_true, labels, k, weight, filter_pairs, rarity=None):
        if metric == "ndcg":
            seen.append(filter_pairs)
        return values_at_k(metric, y_true, labels, k, weight, filter_pairs, rarity)

    monkeypatch.setattr(_unified.model, "values_at_k", record)
    held_out = TrainingSet(rows, y, np.ones(5), labels, attributes={"n_samples_fit_": 300})
    before = model.fusion_weights_.copy()
    model.model_.with_best_weights(held_out)
    np.testing.assert_array_equal(model.fusion_weights_, before)
    expected = np.zeros(y.shape)
    expected[2, own] = 1
    for pairs in seen:
        np.testing.assert_array_equal(pairs.toarray(), expected)
    assert len(seen) > len(_unified.model.TEXT_WEIGHTS) * len(_unified.model.FREQUENCY_WEIGHTS)


@pytest.mark.parametrize("calibration", ["auto", None])
def test_without_held_out_rows_the_weights_are_the_usual_ones(planted, trainings, calibration):
    """The second training of small data has all rows, so none are left to learn from.

    The first one, whose scores become probabilities, must then use the same weights.
    """
    model = quick(n_epochs=1, calibration=calibration)
    seen, train = [], model._train
    model._train = lambda fit: seen.append(train(fit)) or seen[-1]
    model.fit(planted.train_texts, planted.train_labels, label_features=planted.label_texts)
    assert [training.is_trial for training in trainings] == [True, False][calibration is None :]
    for trained in seen:
        np.testing.assert_array_equal(trained.fusion_weights, _unified.model.USUAL_WEIGHTS)
    np.testing.assert_array_equal(model.fusion_weights_, _unified.model.USUAL_WEIGHTS)


@pytest.mark.parametrize(
    ("head_weight", "trained", "other"),
    [(1.0, "dual_encoder", "classifier"), (0.0, "classifier", "dual_encoder")],
)
def test_one_head_alone(planted, head_weight, trained, other):
    model = fit(planted, heads__weight=head_weight, n_epochs=10)
    both = model.predict_topk(planted.test_texts, 5)
    single = model.set_params(heads__prediction=trained).predict_topk(planted.test_texts, 5)
    for first, second in zip(both, single, strict=True):
        np.testing.assert_array_equal(first, second)
    assert model.score(planted.test_texts, planted.test_labels) > 0.5
    assert model.trained_heads_ == trained
    assert (model.label_embeddings_ is None) == (trained == "classifier")
    assert (model.classifier_weights_ is None) == (trained == "dual_encoder")
    assert model.label_vectors_.shape == (40, 24)
    message = f"`heads__prediction` must be '{trained}' or 'both'.*but is '{other}'"
    model.set_params(heads__prediction=other)
    for ask in (model.predict_topk, model.predict, model.predict_proba):
        with pytest.raises(ValueError, match=message):
            ask(planted.test_texts)


def test_a_head_that_will_not_be_trained_is_refused_before_training(planted, monkeypatch):
    monkeypatch.setattr(UnifiedXC, "_train", lambda *_: 1 / 0)
    with pytest.raises(ValueError, match=r"only that head is trained with heads__weight=1, but"):
        fit(planted, heads__weight=1.0, heads__prediction="classifier")


def test_blocks_of_queries(planted, model, monkeypatch):
    expected = model.predict_topk(planted.test_texts, 6)
    monkeypatch.setattr(_model.in_blocks, "__defaults__", (7,))
    for first, second in zip(model.predict_topk(planted.test_texts, 6), expected, strict=True):
        np.testing.assert_array_equal(first, second)


def test_prediction_leaves_the_global_generator_alone(planted, model):
    """Other threads may be training with it."""
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert model.predict_topk(planted.test_texts[:3], 2)[0].shape == (3, 2)
    pickle.loads(pickle.dumps(model)).add_labels([planted.label_texts[0]])
    assert torch.equal(torch.get_rng_state(), before)


# ---- pools


def test_pools_by_size():
    def negatives(n_labels=1000, **params):
        return negatives_of(LabelPool(**params), n_labels, batch_size=100)

    for pool in (negatives(300), negatives(size=1000)):
        assert isinstance(pool, AllLabels)
        assert pool.get_params() == {"n_positives": 3, "refresh_every": 3}
    mined = negatives(n_negatives=4, n_positives=None, refresh_every=5)
    expected = Mined(
        depth=100, n_negatives=4, n_kept=20, refresh_every=5, n_positives=None, pool_size=300
    )
    assert mined.get_params() == expected.get_params()
    in_batch = negatives(n_negatives=0, size=7)
    expected = InBatch(pool_size=7, n_positives=3, refresh_every=3)
    assert in_batch.get_params() == expected.get_params()


def test_clusters_are_batches():
    """Of one to two times the batch size, from the first refresh on; random ones before."""
    batches = batches_of(LabelPool(refresh_every=2), n_samples=300, batch_size=32)
    assert not batches.needs_refresh(0)
    assert batches.needs_refresh(2)
    vectors = np.random.default_rng(0).normal(size=(300, 4))
    batches.refresh(vectors, 2, np.random.default_rng(0))
    parts = list(batches.batches(2, np.random.default_rng(1)))
    assert all(32 <= len(rows) < 64 for rows in parts)
    assert sorted(np.concatenate(parts)) == list(range(300))
    unit = normalize_rows(vectors)

    def cosine(parts):
        return np.mean([(unit[rows] @ unit[rows].T).mean() for rows in parts])

    assert cosine(parts) > cosine(np.split(np.arange(300), 10)) + 0.1
    plain = batches_of(LabelPool(clustered=False), 300, 32)
    assert not any(plain.needs_refresh(epoch) for epoch in range(20))


def test_the_report_tells_what_pools_were_like(planted):
    model = fit(planted, pool__size=16, batch_size=16, pool__n_positives=1)
    report = model.pool_report_
    assert set(report) == {
        *("pool_size", "positives_per_query", "n_refreshes"),
        *("mined_share", "empty_lists", "masked_fraction"),
    }
    assert 1 <= report["pool_size"] <= 16
    assert 0.5 <= report["positives_per_query"] <= 4
    assert report["n_refreshes"] == model.n_refreshes_ == 2
    assert 0.05 < report["mined_share"] < 0.7
    assert report["empty_lists"] == report["masked_fraction"] == 0
    assert all(isinstance(value, float) for value in report.values())
    unmined = fit(planted, pool__size=16, batch_size=16, pool__n_negatives=0).pool_report_
    assert unmined["mined_share"] == 0
    assert unmined["n_refreshes"] == 2, "clusters are renewed"
    neither = fit(planted, pool__n_negatives=0, pool__clustered=False).pool_report_
    assert neither["n_refreshes"] == 0
    assert fit(planted, pool__size=40).pool_report_["pool_size"] == 40


def test_mined_labels_score_far_above_random_ones_and_change(planted, monkeypatch):
    lists = []
    refresh = Mined.refresh

    def refresh_and_look(self, queries, labels, search):
        refresh(self, queries, labels, search)
        mined = self.get_state()["candidates"]
        scores = queries @ labels.T
        hard = np.take_along_axis(scores, np.maximum(mined, 0).astype(np.int64), axis=1)[mined >= 0]
        lists.append((mined.copy(), hard.mean() - scores.mean()))

    monkeypatch.setattr(Mined, "refresh", refresh_and_look)
    fit(planted, n_epochs=7, pool__n_negatives=2)
    assert len(lists) == 3
    for (before, _), (after, gap) in pairwise(lists):
        assert gap > 0.3
        assert (before != after).mean() > 0.1


def test_rows_for_which_mining_finds_nothing_are_reported():
    """A row with every label has no negatives."""
    texts = [f"word{i % 4} other{i}" for i in range(40)]
    y = np.eye(12, dtype=int)[np.arange(40) % 4]
    y[::2] = 1
    model = quick(pool__size=6, batch_size=8).fit(
        texts, sp.csr_array(y), label_features=[f"word{i}" for i in range(12)]
    )
    assert model.pool_report_["empty_lists"] == pytest.approx(0.5, abs=0.1)


# ---- new labels


@pytest.mark.filterwarnings("ignore:100% of the words")
@pytest.mark.parametrize("head_weight", [0.0, 0.5, 1.0])
def test_a_new_label_is_found_by_its_text(planted, head_weight):
    """Label 0 is taken out of training and added by its text afterwards."""
    model = quick(n_epochs=12, heads__weight=head_weight).fit(
        planted.train_texts, planted.train_labels[:, 1:], label_features=planted.label_texts[1:]
    )
    weights = copy.deepcopy(model.encoder_.__getstate__()["module_arrays"])
    old = model.set_params(top_k=39).decision_function(planted.test_texts)
    model.add_labels(planted.label_texts[:1])
    rows = np.flatnonzero(planted.test_labels[:, [0]].toarray()[:, 0])
    best = model.predict_topk([planted.test_texts[row] for row in rows], 10)[0]
    assert np.mean((best == 39).any(axis=1)) > 0.6
    new = model.set_params(top_k=40).decision_function(planted.test_texts)
    np.testing.assert_array_equal(new[:, :39].toarray(), old.toarray())
    for name, array in model.encoder_.__getstate__()["module_arrays"].items():
        np.testing.assert_array_equal(array, weights[name])
    if head_weight:
        model.set_params(heads__prediction="dual_encoder")
        best = model.predict_topk([planted.test_texts[row] for row in rows], 10)[0]
        assert np.mean((best == 39).any(axis=1)) > 0.6


def test_a_failure_leaves_the_model_as_it_was(planted, model, monkeypatch):
    before = state_of(model)
    for wrong in ({"label_features": None}, {"label_features": ["a"], "label_names": ["b", "c"]}):
        with pytest.raises(ValueError):
            model.add_labels(**wrong)
    with monkeypatch.context() as patch:
        patch.setattr(type(model.encoder_), "encode", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model.add_labels([planted.label_texts[0]])
    assert state_of(model) == before


# ---- graph


@pytest.mark.parametrize("graph", [sp.csr_array((40, 40)), sp.csr_array(np.eye(40))])
def test_a_graph_without_edges_changes_nothing(planted, graph):
    plain, with_graph = fit(planted), fit(planted, graph=graph)
    assert state_of(plain.set_params(graph=None)) == state_of(with_graph.set_params(graph=None))


def test_neighbours_are_masked_and_label_texts_teach(planted):
    graph = sp.csr_array(planted.graphs["related"])
    masked = fit(planted, graph=graph, label_queries__weight=0.0)
    assert 0 < masked.masked_fraction_ < 0.2
    assert masked.pool_report_["masked_fraction"] == masked.masked_fraction_
    taught = fit(planted, graph=graph, label_queries__mask_neighbors=False)
    assert taught.masked_fraction_ == 0
    assert (taught.label_vectors_ != fit(planted).label_vectors_).any()
    assert taught.score(planted.test_texts, planted.test_labels) > 0.5


def test_the_true_graph_beats_a_shuffled_one():
    """On labels whose words say little, related labels do."""
    gaps = []
    for seed in range(2):
        data = make_planted_xc(
            500, 80, n_test=300, vocabulary_gap=1.0, unseen_fraction=0.4, random_state=seed
        )
        graph = sp.csr_array(data.graphs["related"])
        shuffled = graph[:, np.random.default_rng(seed).permutation(80)]
        options = {
            "n_epochs": 12,
            "label_queries__mask_neighbors": False,
            "label_queries__weight": 1.0,
            "random_state": seed,
            "pool__size": 60,
        }
        true, false = (
            fit(data, graph=g, **options).score(data.test_texts, data.test_labels)
            for g in (graph, shuffled)
        )
        gaps.append(true - false)
    assert np.mean(gaps) > 0.01


# ---- data without texts


def test_texts_need_label_texts(planted):
    with pytest.raises(ValueError, match=r"one text per label.*LearnedIndexXC and LinearTreeXC"):
        quick().fit(planted.train_texts, planted.train_labels)


def test_features_without_label_features_are_named(features):
    X, y, _ = features
    model = quick(pool__size=6)
    with pytest.warns(LabelTextWarning, match="no longer UniDEC.*LearnedIndexXC"):
        model.fit(X, y)
    assert model.score(X, y) > 0.3


# ---- training options


@pytest.fixture
def quick_disk(monkeypatch):
    """Do not wait for the disk in this process: it takes longer than a tiny training."""
    monkeypatch.setattr("skxc.persistence._files.flush", lambda path: None)


class KilledError(Exception):
    pass


@pytest.mark.usefixtures("quick_disk")
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"label_table__dtype": "bfloat16", "heads__weight": 0.0},
        {"training__micro_batch_size": 5, "heads__symmetric": True, "heads__weight": 1.0},
    ],
    ids=str,
)
def test_a_killed_fit_ends_like_an_unbroken_one(features, params, tmp_path, monkeypatch):
    X, y, side = features
    tiny = {"encoder": BagEncoder(dim=8), "batch_size": 16, "pool__size": 6, "heads__dim": 6}
    params = {**tiny, "pool__refresh_every": 1, "n_epochs": 3, **params}
    expected = quick(**params).fit(X, y, label_features=side)
    write, n_written = Checkpoint.write, [0]

    def write_and_die(self, *arguments):
        write(self, *arguments)
        n_written[0] += 1
        if n_written[0] == dies_after:
            raise KilledError

    monkeypatch.setattr(Checkpoint, "write", write_and_die)
    for dies_after in (2, 4):
        n_written[0] = 0
        folder = tmp_path / str(dies_after)
        with pytest.raises(KilledError):
            quick(**params, training__checkpoint_dir=folder).fit(X, y, label_features=side)
        resumed = quick(**params, training__checkpoint_dir=folder).fit(X, y, label_features=side)
        assert n_written[0] == 6, "no epoch is trained twice"
        assert_same_model(resumed, expected, X)
        np.testing.assert_array_equal(resumed.label_vectors_, expected.label_vectors_)
        assert resumed.history_ == expected.history_
        assert resumed.pool_report_ == expected.pool_report_


def test_early_stopping(planted):
    model = fit(planted, training__patience=1, n_epochs=40)
    held_out = [record["held_out"] for record in model.history_]
    assert model.n_iter_ < 40
    assert held_out[-1] <= max(held_out[:-1])


def test_micro_batches_change_nothing(planted):
    first, second = (
        fit(planted, n_epochs=2, training__micro_batch_size=size) for size in (None, 17)
    )
    np.testing.assert_allclose(first.label_vectors_, second.label_vectors_, atol=5e-3)


def test_short_and_long_numbers_learn_the_same(planted):
    """Half the bytes cost no precision beyond that of a seed."""
    scores = [
        [
            fit(planted, label_table__dtype=dtype, random_state=seed, n_epochs=10).score(
                planted.test_texts, planted.test_labels
            )
            for seed in range(3)
        ]
        for dtype in ("float32", "bfloat16")
    ]
    assert np.mean(scores[1]) == pytest.approx(np.mean(scores[0]), abs=0.05)


def test_a_table_on_the_cpu_is_the_same_there(planted):
    assert_same_model(
        fit(planted, n_epochs=1, label_table__device="cpu"),
        fit(planted, n_epochs=1),
        planted.test_texts,
    )


# ---- encoders


def test_a_transformer(tiny_transformer):
    """In micro-batches, and as frozen embeddings under trained heads."""
    rng = np.random.default_rng(0)
    words = ["wine", "grape", "red", "white", "deep", "learning", "machine", "tree", "oak"]
    y = np.eye(9, dtype=int)[rng.integers(9, size=60)]
    texts = [f"{words[row.argmax()]} barrel" for row in y]
    params = {"n_epochs": 20, "pool__size": 6, "batch_size": 16, "learning_rate": 0.003}
    model = quick(**params, encoder=tiny_transformer, training__micro_batch_size=7).fit(
        texts, sp.csr_array(y), label_features=words
    )
    assert model.score(texts, y) > 0.8
    again = pickle.loads(pickle.dumps(model))
    assert_same_model(model, again, texts[:9])
    frozen = FrozenEncoder(BagEncoder(dim=64), dim=16)
    model = quick(**params, encoder=frozen).fit(texts, sp.csr_array(y), label_features=words)
    assert model.score(texts, y) > 0.8


def test_parameters_of_the_encoder(planted):
    search = GridSearchCV(
        UnifiedXC(n_epochs=1, random_state=0, label_features=LabelTexts(planted.label_texts)),
        {"encoder__dim": [4, 16], "heads__weight": [0.5], "loss__temperature": [0.1]},
        cv=2,
        error_score="raise",
    ).fit(planted.train_texts, planted.train_labels)
    assert search.best_estimator_.encoder_.dim_ in (4, 16)


# ---- state


@pytest.mark.parametrize(
    "params",
    [{}, {"heads__weight": 0.0}, {"heads__weight": 1.0, "graph": "cooccurrence"}],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:The graph masks")
def test_saved_models(planted, params, tmp_path):
    model = fit(planted, n_epochs=1, **params)
    model.add_labels([planted.label_texts[3]])
    data = pickle.dumps(model)
    assert b"torch" not in data
    model.save(tmp_path / "model")
    for again in (skxc.load(tmp_path / "model"), pickle.loads(data)):
        assert_same_model(model, again, planted.test_texts[:20])
        assert again.pool_report_ == model.pool_report_
    again.fit(planted.train_texts, planted.train_labels, label_features=planted.label_texts)
    assert again.n_labels_ == 40


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"loss": "triplet"}, "'loss' parameter of UnifiedXC"),
        ({"loss__temperature": 0}, "'temperature' parameter of DecoupledSoftmax"),
        ({"fusion": "tree"}, "'fusion' parameter of UnifiedXC"),
        ({"heads__weight": 1.5}, "'weight' parameter of TwoHeads"),
        ({"heads__dim": 0}, "'dim' parameter of TwoHeads"),
        ({"heads__prediction": "text"}, "'prediction' parameter of TwoHeads"),
        ({"pool__size": 0}, "'size' parameter of LabelPool"),
        ({"pool__n_positives": 0}, "'n_positives' parameter of LabelPool"),
        ({"pool__n_negatives": -1}, "'n_negatives' parameter of LabelPool"),
        ({"pool__refresh_every": 0}, "'refresh_every' parameter of LabelPool"),
        ({"label_table__start": "zero"}, "'start' parameter of LabelTable"),
        ({"label_table__similarity": "l2"}, "'similarity' parameter of LabelTable"),
        ({"label_table__dropout": 1.0}, "'dropout' parameter of LabelTable"),
        ({"label_table__dtype": "float16"}, "'dtype' parameter of LabelTable"),
        ({"label_table__device": "cuda"}, "'device' parameter of LabelTable"),
    ],
)
def test_bad_parameters(planted, params, message):
    with pytest.raises(ValueError, match=message):
        fit(planted, **params)


def test_parts():
    for name in ("heads", "pool", "label_table"):
        with pytest.raises(ValueError, match=f"'{name}' parameter of UnifiedXC"):
            UnifiedXC(**{name: False}).fit(["a", "b"], [[1], [0]], label_features=["c"])
    assert len(UnifiedXC().get_params(deep=False)) <= 21
    with pytest.raises(ValueError, match="Invalid parameter 'wieght' for estimator TwoHeads"):
        UnifiedXC().set_params(heads__wieght=0.3)
    given = UnifiedXC(pool=LabelPool(size=9), heads=TwoHeads(dim=3), label_table=LabelTable())
    assert given.get_params()["pool__size"] == 9


def test_the_temperature_of_a_loss_that_is_given_by_its_name():
    named = UnifiedXC(loss="softmax")
    assert named._part("loss").temperature == 1 / 18
    assert named.set_params(loss__temperature=0.2)._part("loss").temperature == 0.2
    given = UnifiedXC(loss=DecoupledSoftmax())
    assert given._part("loss").temperature == DecoupledSoftmax().temperature != 1 / 18


def test_the_temperature_reaches_training_and_the_term_for_frequency(planted):
    first, second = (fit(planted, n_epochs=1, loss__temperature=t) for t in (1 / 18, 0.2))
    assert_same_model(first, fit(planted, n_epochs=1), planted.test_texts[:9])
    assert first.history_ != second.history_
    ratio = second.label_vectors_[:, -1] / np.maximum(first.label_vectors_[:, -1], 1e-9)
    np.testing.assert_allclose(ratio[ratio > 0], 0.2 * 18, rtol=1e-5)


# ---- what may be changed after a fit


@pytest.fixture(scope="module")
def large():
    """Return a model of so many rows that held-out ones are kept, and its data."""
    options = {"vocabulary_gap": 0.0, "unseen_fraction": 0.0, "random_state": 0}
    data = make_planted_xc(2400, 60, n_test=1000, **options)
    model = quick(n_epochs=5, batch_size=128, pool__size=50, calibration="held_out").fit(
        data.train_texts, data.train_labels, label_features=data.label_texts
    )
    return model, data


@pytest.mark.parametrize(
    "params",
    [{"heads__prediction": "classifier"}, {"heads__prediction": "dual_encoder"}, {"fusion": "sum"}],
    ids=str,
)
def test_probabilities_of_another_head_are_calibrated(large, params):
    model, data = large
    texts, y = data.test_texts, data.test_labels
    changed = copy.deepcopy(model).set_params(**params)
    assert (changed.predict_topk(texts, 5)[0] != model.predict_topk(texts, 5)[0]).any()
    stale = model.calibrator_.transform(changed.decision_function(texts))
    error = ece_at_k(y, changed.predict_proba(texts), k=60)
    assert error < 0.01
    assert ece_at_k(y, stale, k=60) > 1.5 * error
    predicted = changed.predict(texts)
    assert predicted.sum() > 1000
    assert predicted.multiply(y).sum() > 0.6 * predicted.sum()


def test_other_parameters_change_nothing_before_the_next_fit(large, planted):
    model, data = large
    changed = copy.deepcopy(model).set_params(
        heads__weight=1.0, heads__dim=7, fusion="learned", pool__size=3, label_table__dropout=0.5
    )
    assert_same_model(model, changed, data.test_texts[:50])
    small = quick(n_epochs=1).fit(
        planted.train_texts, planted.train_labels, label_features=planted.label_texts
    )
    expected = small.predict_proba(planted.test_texts)
    small.set_params(heads__weight=0.9, pool__size=3)
    assert (small.predict_proba(planted.test_texts) != expected).nnz == 0
    small.set_params(fusion="sum")
    assert small.predict_topk(planted.test_texts, 3)[0].shape == (150, 3)
    for ask in (small.predict_proba, small.predict):
        with pytest.raises(ValueError, match=r"heads__prediction.*changed after fit"):
            ask(planted.test_texts)


def test_parts_are_checked_when_they_are_used(planted, model):
    for params in ({"heads__prediction": "text"}, {"fusion": "tree"}):
        with pytest.raises(ValueError, match=r"'(prediction|fusion)' parameter"):
            copy.deepcopy(model).set_params(**params).predict_topk(planted.test_texts)


# ---- a fit that fails


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupted_refit_leaves_the_old_model(planted, model, monkeypatch, error):
    model = copy.deepcopy(model)
    before, expected = state_of(model), model.predict_labels(planted.test_texts[:9], 3)
    backward, steps = UnifiedTask.backward, []

    def fail(self, batch):
        steps.append(batch)
        if len(steps) > 12:
            raise error
        return backward(self, batch)

    monkeypatch.setattr(UnifiedTask, "backward", fail)
    with pytest.raises(error):
        model.fit(
            planted.train_texts, planted.train_labels[:, 5:], label_features=planted.label_texts[5:]
        )
    assert len(steps) > 12
    assert model.predict_labels(planted.test_texts[:9], 3) == expected
    assert state_of(model) == before


def test_an_interrupted_first_fit_is_no_fit(planted, monkeypatch, tmp_path):
    class Vectorizer(TfidfVectorizer):
        def transform(self, texts):
            raise ZeroDivisionError

    for params in ({"vectorizer": Vectorizer()}, {}):
        if not params:
            monkeypatch.setattr(_unified.model.UnifiedModel, "with_best_weights", lambda *_: 1 / 0)
        model = quick(n_epochs=1, calibration="held_out", **params)
        with pytest.raises(ZeroDivisionError):
            model.fit(planted.train_texts, planted.train_labels, label_features=planted.label_texts)
        for ask in (model.predict, model.transform, model.add_labels):
            with pytest.raises(NotFittedError):
                ask(planted.test_texts)
        with pytest.raises(NotFittedError):
            model.save(tmp_path / "model")
        assert not hasattr(model, "label_vectors_")


def test_a_failing_save_leaves_the_saved_model(planted, model, tmp_path, monkeypatch):
    model.save(tmp_path / "model")
    monkeypatch.setattr("skxc.persistence._save_load.write_arrays", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(planted, n_epochs=1).save(tmp_path / "model")
    assert_same_model(skxc.load(tmp_path / "model"), model, planted.test_texts[:9])
