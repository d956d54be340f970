"""DualEncoderXC: learning, prediction against loops, stages, new labels, graphs, state."""

import copy
import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV

import skxc
from skxc import DualEncoderXC, LabelGraph, LabelTexts
from skxc.datasets import make_planted_xc
from skxc.encoders import BagEncoder, FrozenEncoder
from skxc.exceptions import LabelTextWarning
from skxc.indices import ExactIndex
from skxc.metrics import ece_at_k, precision_at_k
from skxc.negatives import InBatch, Mined, make_negatives
from skxc.ranking import NeighborVotes, neighbor_votes
from tests.toys import assert_same_model, dense

torch = pytest.importorskip("torch")

from skxc._model import in_blocks  # noqa: E402
from skxc.estimators import _encoding  # noqa: E402
from skxc.estimators._dual_encoder.classifier import ClassifierStage  # noqa: E402
from skxc.estimators._dual_encoder.task import JointVectors  # noqa: E402
from skxc.losses import DecoupledSoftmax  # noqa: E402
from skxc.training import LabelQueries, Training  # noqa: E402

QUICK = {
    "n_epochs": 3,
    "random_state": 0,
    "batch_size": 64,
    "encoder": BagEncoder(dim=32),
    # No second training of small data.
    "calibration": "held_out",
}


def fit(data, **params):
    """Return a quickly trained model."""
    return DualEncoderXC(**{**QUICK, **params}).fit(
        data.train_texts, data.train_labels, label_features=data.label_texts
    )


@pytest.fixture(scope="module")
def model(planted):
    return fit(planted, n_epochs=10)


def state_of(model):
    """Return everything a model holds, as one comparable value."""
    return pickle.dumps(model.__getstate__())


def full_scores(model, texts):
    """Return the dense scores of all labels, from public pieces and by loops over rows."""
    queries = model.transform(texts)
    vectors = model.label_embeddings_
    if model.classifier_weights_ is not None:
        vectors = model.classifier_weights_
    scores = queries @ vectors.T
    votes, rows = model._part("votes"), model.model_.rows
    if votes is None:
        return scores
    weight = model.vote_weight_ if votes.weight == "auto" else votes.weight
    for row, query in enumerate(queries):
        similarity = model.sample_embeddings_ @ query
        near = np.argsort(-similarity, kind="stable")[: votes.n_neighbors]
        mass = np.exp(similarity[near] / votes.temperature)
        mass *= rows.weight[near]
        scores[row] += weight * (mass / mass.sum()) @ rows.y[near].toarray()
    return scores


# ---- learning


def test_it_learns_what_label_words_mean():
    """Samples and labels share no word, so everything has to be learned."""
    data = make_planted_xc(300, 40, n_test=150, unseen_fraction=0.0, random_state=0)
    options = {"votes": False, "label_vectors": False}
    untrained = fit(data, learning_rate=1e-9, **options)
    trained = fit(data, n_epochs=10, **options)
    assert untrained.score(data.test_texts, data.test_labels) < 0.2
    assert trained.score(data.test_texts, data.test_labels) > 0.6


def test_labels_without_rows_are_found_by_their_text(planted, model):
    unseen = np.flatnonzero(model.label_frequency_ == 0)
    rows = np.flatnonzero(np.isin(planted.test_sources, unseen))
    assert len(rows) > 5
    best = model.predict_topk([planted.test_texts[row] for row in rows], 10)[0]
    found = [planted.test_sources[row] in labels for row, labels in zip(rows, best, strict=True)]
    assert np.mean(found) > 0.5


@pytest.mark.parametrize("negatives", ["in_batch", "clustered", "mined", "all"])
@pytest.mark.parametrize("label_vectors", ["joint", ClassifierStage(n_epochs=2), False])
def test_all_negatives_and_stages_learn(planted, negatives, label_vectors):
    model = fit(
        planted,
        negatives=make_negatives(negatives).set_params(refresh_every=1),
        label_vectors=label_vectors,
        n_epochs=5,
        votes=False,
    )
    assert model.score(planted.test_texts, planted.test_labels) > 0.35
    refreshing = negatives in ("clustered", "mined")
    assert model.n_refreshes_ == (4 if refreshing else 0)


def test_losses_in_their_order():
    """Decoupled softmax beats softmax on uneven frequencies, and one-vs-all is poor."""
    figures = {}
    for loss in ("decoupled", "softmax", "bce"):
        figures[loss] = 0.0
        for seed in range(3):
            data = make_planted_xc(
                600, 80, n_test=300, tail=1.0, unseen_fraction=0.0, random_state=seed
            )
            model = fit(
                data,
                loss=loss,
                n_epochs=10,
                negatives="all",
                label_vectors=False,
                votes=False,
                random_state=seed,
            )
            figures[loss] += model.score(data.test_texts, data.test_labels) / 3
    assert figures["decoupled"] > figures["softmax"] + 0.01
    assert figures["softmax"] > figures["bce"] + 0.1


# ---- prediction against loops


@pytest.mark.parametrize(
    "votes", [False, None, NeighborVotes(weight=0.3, n_neighbors=7), NeighborVotes(weight=0.0)]
)
def test_scores(planted, votes):
    model = fit(planted, votes=votes)
    texts = planted.test_texts[:20]
    expected = full_scores(model, texts)
    for k in (1, 5, 40):
        labels, scores = model.predict_topk(texts, k)
        for row in range(20):
            best = -np.sort(-expected[row])[:k]
            np.testing.assert_allclose(scores[row], best, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(expected[row, labels[row]], best, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("votes", [None, False])
def test_topk_are_the_best_of_decision_function(planted, votes):
    model = fit(planted, top_k=8, votes=votes)
    texts = planted.test_texts[:30]
    scores = model.decision_function(texts)
    for k in (1, 3, 8):
        labels, values = model.predict_topk(texts, k)
        for row in range(30):
            inside = slice(*scores.indptr[row : row + 2])
            stored = sorted(zip(-scores.data[inside], scores.indices[inside], strict=True))[:k]
            found = list(zip(-values[row], labels[row], strict=True))
            assert found == stored


def test_votes_of_the_nearest_training_rows(planted, model):
    queries, rows = model.transform(planted.test_texts[:9]), model.model_.rows
    near, similarity = rows.vectors.search(queries, 50)
    votes = neighbor_votes(near, similarity, rows.y, rows.weight, NeighborVotes().temperature)
    mine = model.model_._votes(queries)
    np.testing.assert_array_equal(votes.values, mine.values)
    assert len(model.sample_embeddings_) == rows.y.shape[0] == len(rows.weight)


def test_parameters_of_prediction_can_change_after_fit(planted, model):
    again = copy.copy(model).set_params(votes__weight=0.9, votes__n_neighbors=3, top_k=5)
    texts = planted.test_texts[:5]
    expected = np.sort(full_scores(again, texts), axis=1)[:, -1]
    np.testing.assert_allclose(again.predict_topk(texts, 1)[1][:, 0], expected, rtol=1e-4)
    again.set_params(index=ExactIndex(block_shape=(2, 3)))
    np.testing.assert_array_equal(
        again.predict_topk(texts)[0], again.set_params(index="exact").predict_topk(texts)[0]
    )


@pytest.mark.parametrize("index", ["hnsw", "ivf"])
def test_approximate_search_finds_the_same(planted, model, index):
    pytest.importorskip("faiss")
    texts = planted.test_texts[:50]
    exact = model.predict_topk(texts, 5)[0]
    near = copy.copy(model).set_params(index=index).predict_topk(texts, 5)[0]
    assert np.mean(exact == near) > 0.95


def test_votes_that_were_not_kept_cannot_be_switched_on(planted):
    silent = fit(planted, n_epochs=1, votes=False).set_params(votes=NeighborVotes())
    with pytest.raises(ValueError, match="`votes` was False in fit, so no training row is kept"):
        silent.predict_topk(planted.test_texts, 3)
    heard = fit(planted, n_epochs=1)
    texts = planted.test_texts[:30]
    expected = silent.set_params(votes=False).predict_topk(texts, 3)[0]
    np.testing.assert_array_equal(heard.set_params(votes=False).predict_topk(texts, 3)[0], expected)


def test_blocks_of_queries(planted, model):
    expected = model.predict_topk(planted.test_texts, 6)
    queries = model.transform(planted.test_texts)
    for first, second in zip(in_blocks(model.model_._search, queries, 6, 7), expected, strict=True):
        np.testing.assert_array_equal(first, second)
    alone = model.predict_topk(planted.test_texts[:1], 6)
    np.testing.assert_array_equal(alone[0][0], expected[0][0])
    np.testing.assert_allclose(alone[1][0], expected[1][0], rtol=1e-5)


def test_prediction_memory_does_not_grow_with_samples_times_labels():
    n, n_labels = 3000, 20_000
    rng = np.random.default_rng(0)
    X = sp.csr_array((np.ones(n, "f"), rng.integers(50, size=n), np.arange(n + 1)), shape=(n, 50))
    y = sp.csr_array(
        (np.ones(n, "f"), rng.integers(n_labels, size=n), np.arange(n + 1)), shape=(n, n_labels)
    )
    model = DualEncoderXC(
        n_epochs=1,
        encoder=BagEncoder(dim=8),
        top_k=10,
        votes=NeighborVotes(n_neighbors=10),
        random_state=0,
    ).fit(X, y)
    tracemalloc.start()
    model.decision_function(X)
    model.predict(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * n_labels * 4 / 4


# ---- label vectors


def test_an_untrained_classifier_ranks_like_the_encoder(planted):
    pure = fit(planted, label_vectors=False, votes=False)
    start = fit(planted, label_vectors=ClassifierStage(n_epochs=0), votes=False)
    np.testing.assert_allclose(start.classifier_weights_, pure.label_embeddings_, atol=1e-6)
    first, second = (m.predict_topk(planted.test_texts, 10)[0] for m in (pure, start))
    assert np.mean(first == second) > 0.995  # rounding may swap near ties


def test_the_classifier_stage_raises_precision_and_leaves_the_encoder():
    """On labels with many rows, and where the encoder was trained for a short time."""
    gains = []
    for seed in range(2):
        data = make_planted_xc(800, 30, n_test=400, unseen_fraction=0.0, random_state=seed)
        options = {"votes": False, "n_epochs": 2, "random_state": seed}
        pure = fit(data, label_vectors=False, **options)
        staged = fit(data, label_vectors="stage", **options)
        before, after = (m.encoder_.__getstate__()["module_arrays"] for m in (pure, staged))
        for name, array in before.items():
            np.testing.assert_array_equal(array, after[name])
        np.testing.assert_array_equal(pure.label_embeddings_, staged.label_embeddings_)
        assert (staged.classifier_weights_ != staged.label_embeddings_).any()
        head = data.train_labels.sum(axis=0)[data.test_sources] >= 40
        scores = [
            m.score(np.array(data.test_texts, object)[head], data.test_labels[head])
            for m in (pure, staged)
        ]
        gains.append(scores[1] - scores[0])
    assert np.mean(gains) > 0.01


def test_classifiers_start_at_the_average_of_their_neighbours(planted):
    graph = np.zeros((40, 40), dtype=np.float32)
    graph[3, 5], graph[3, 6], graph[4, 4] = 1, 3, 2
    model = fit(
        planted,
        label_vectors=ClassifierStage(n_epochs=0),
        graph=sp.csr_array(graph),
        label_queries=LabelQueries(weight=0.0, mask_neighbors=False),
    )
    texts, start = model.label_embeddings_, model.classifier_weights_
    expected = texts[3] + (texts[5] + 3 * texts[6]) / 4
    np.testing.assert_allclose(start[3], expected / np.linalg.norm(expected), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.delete(start, 3, axis=0), np.delete(texts, 3, axis=0), atol=1e-6)


# ---- new labels


@pytest.mark.filterwarnings("ignore:100% of the words")
def test_a_new_label_is_found_by_its_text(planted):
    """Label 0 is taken out of training and added by its text afterwards."""
    for label_vectors in (False, "joint", "stage"):
        model = DualEncoderXC(**{**QUICK, "n_epochs": 8}, label_vectors=label_vectors).fit(
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


@pytest.mark.filterwarnings("ignore:100% of the words")
@pytest.mark.parametrize("label_vectors", [False, "joint", ClassifierStage(n_epochs=1)])
def test_added_labels(planted, label_vectors):
    model = fit(planted, label_vectors=label_vectors)
    searched = model.predict_topk(planted.test_texts, 3)
    samples = model.model_.rows.vectors
    assert model.add_labels(LabelTexts(["river bank", "stone bridge"])) is model
    assert len(model.label_embeddings_) == model.n_labels_ == 42
    assert model.model_.rows.y.shape[1] == 42
    assert model.model_.rows.vectors is samples, "training rows need no new index"
    new = model.encoder_.encode(model.encoder_.prepare(["river bank", "stone bridge"]))
    np.testing.assert_array_equal(model.label_embeddings_[40:], new)
    if label_vectors:
        np.testing.assert_array_equal(model.classifier_weights_[40:], new)
    else:
        assert model.classifier_weights_ is None
    np.testing.assert_array_equal(model.predict_topk(["river bank"], 1)[0], [[40]])
    again = pickle.loads(pickle.dumps(model))
    assert_same_model(model, again, planted.test_texts[:9])
    np.testing.assert_array_equal(
        model.predict_topk(planted.test_texts, 3)[0].shape, searched[0].shape
    )
    model.fit(planted.train_texts, planted.train_labels, label_features=planted.label_texts)
    assert model.n_labels_ == 40, "a later fit forgets them"


@pytest.mark.parametrize(
    "wrong",
    [
        {"label_features": None},
        {"label_features": "a text"},
        {"label_features": sp.csr_array((2, 3))},
        {"label_features": ["one"], "label_names": ["a", "b"]},
        {"label_features": ["one", 2]},
    ],
)
def test_a_failure_leaves_the_model_as_it_was(planted, model, wrong):
    before = state_of(model)
    with pytest.raises((ValueError, TypeError)):
        model.add_labels(**wrong)
    assert state_of(model) == before


def test_a_failure_while_encoding_leaves_the_model_as_it_was(planted, model, monkeypatch):
    before = state_of(model)
    with monkeypatch.context() as patch:
        patch.setattr(type(model.encoder_), "encode", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model.add_labels(["some text"])
    assert state_of(model) == before


def test_unknown_words_of_new_labels_are_named(planted, model):
    again = pickle.loads(pickle.dumps(model))
    with pytest.warns(LabelTextWarning, match="100% of the words of the new labels were not seen"):
        again.add_labels(["zzzz qqqq"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again.add_labels([planted.label_texts[0]])


# ---- graph


@pytest.mark.parametrize("graph", [sp.csr_array((40, 40)), sp.csr_array(np.eye(40)), "loops"])
@pytest.mark.parametrize("label_vectors", ["joint", ClassifierStage(n_epochs=1)])
def test_a_graph_without_edges_changes_nothing(planted, graph, label_vectors):
    params = {"label_vectors": label_vectors}
    if isinstance(graph, str):
        graph = LabelGraph(sp.csr_array(np.eye(40)))
    plain, with_graph = fit(planted, **params), fit(planted, graph=graph, **params)
    assert state_of(plain.set_params(graph=None)) == state_of(with_graph.set_params(graph=None))
    assert with_graph.masked_fraction_ == 0


def test_the_true_graph_beats_a_shuffled_one():
    """On labels whose words say little, related labels do."""
    gaps = []
    for seed in range(3):
        data = make_planted_xc(
            500, 80, n_test=300, vocabulary_gap=1.0, unseen_fraction=0.4, random_state=seed
        )
        graph = sp.csr_array(data.graphs["related"])
        shuffled = graph[:, np.random.default_rng(seed).permutation(80)]
        options = {
            "n_epochs": 10,
            "label_queries": LabelQueries(weight=1.0, mask_neighbors=False),
            "votes": False,
            "random_state": seed,
        }
        true, false = (
            fit(data, graph=g, **options).score(data.test_texts, data.test_labels)
            for g in (graph, shuffled)
        )
        gaps.append(true - false)
    assert np.mean(gaps) > 0.02


@pytest.mark.filterwarnings("ignore:The graph masks")
def test_cooccurrence_is_built_from_the_rows_of_the_fit(planted, monkeypatch):
    seen = []
    real = _encoding.cooccurrence
    monkeypatch.setattr(_encoding, "cooccurrence", lambda y: (seen.append(y.shape[0]), real(y))[1])
    model = fit(planted, graph="cooccurrence", n_epochs=1)
    assert set(seen) == {len(model.sample_embeddings_)}
    assert seen[0] < 300, "without the held-out rows"
    with pytest.raises(ValueError, match="'friends' was given"):
        fit(planted, graph="friends")


def test_much_masking_is_named(planted):
    full = sp.csr_array(np.ones((40, 40)))
    with pytest.warns(UserWarning, match=r"The graph masks \d+% of all negatives"):
        model = fit(planted, graph=full, label_queries=LabelQueries(weight=0.0))
    assert model.masked_fraction_ > 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = fit(planted, graph=full, label_queries=False, n_epochs=1)
    assert_same_model(plain, fit(planted, n_epochs=1), planted.test_texts[:9])


# ---- weights and canonical rows


@pytest.mark.parametrize("params", [{}, {"negatives": Mined(refresh_every=1)}])
def test_weights_repetitions_and_order(features, params):
    X, y, side = features
    weight = np.random.default_rng(1).integers(0, 3, size=60)
    weight[[4, 9]] = [0, 2]
    repeated = np.random.default_rng(2).permutation(np.repeat(np.arange(60), weight))
    for label_features in (side, None):
        model = DualEncoderXC(**{**QUICK, "calibration": "auto", **params})
        first = clone(model).fit(X, y, sample_weight=weight, label_features=label_features)
        second = clone(model).fit(X[repeated], y[repeated], label_features=label_features)
        assert_same_model(first, second, X)
        np.testing.assert_array_equal(first.label_frequency_, second.label_frequency_)


def test_weights_count(features):
    X, y, _ = features
    weight = np.where(y[:, [0]].toarray()[:, 0] > 0, 50.0, 1.0)
    plain, heavy = (
        DualEncoderXC(**QUICK, votes=False).fit(X, y, sample_weight=w) for w in (None, weight)
    )
    assert (plain.label_embeddings_ != heavy.label_embeddings_).any()


def test_labels_without_features_are_weighted_averages_of_their_rows(features):
    X, y, _ = features
    weight = np.random.default_rng(0).random(60) + 0.5
    model = DualEncoderXC(
        encoder=BagEncoder(dim=6, residual=False),
        learning_rate=1e-12,
        n_epochs=1,
        label_vectors=False,
        random_state=0,
    )
    model.fit(X, y, sample_weight=weight)
    table = model.encoder_.module_.tokens.detach().numpy()
    for label in range(8):
        rows = np.flatnonzero(y[:, [label]].toarray()[:, 0])
        expected = sum(weight[row] * X[[row]].toarray()[0] for row in rows) @ table
        np.testing.assert_allclose(
            model.label_embeddings_[label], expected / np.linalg.norm(expected), atol=1e-4
        )
    assert not model.label_embeddings_[8].any()


@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_same_seed_gives_the_same_model(planted, n_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        models = [fit(planted, n_epochs=1) for _ in range(2)]
    finally:
        torch.set_num_threads(before)
    assert_same_model(*models, planted.test_texts)
    other = fit(planted, n_epochs=1, random_state=1)
    assert (models[0].label_embeddings_ != other.label_embeddings_).any()


# ---- parameters


def test_parameters_of_the_encoder(planted):
    model = DualEncoderXC(n_epochs=1, random_state=0).set_params(encoder__dim=12)
    assert model.encoder.dim == 12
    model.fit(planted.train_texts, planted.train_labels, label_features=planted.label_texts)
    assert model.transform(planted.test_texts).shape == (150, 12)
    search = GridSearchCV(
        DualEncoderXC(n_epochs=1, random_state=0, label_features=LabelTexts(planted.label_texts)),
        {"encoder__dim": [4, 16]},
        cv=2,
        error_score="raise",
    ).fit(planted.train_texts, planted.train_labels)
    assert search.best_estimator_.transform(planted.test_texts).shape[1] in (4, 16)
    assert len(search.cv_results_["params"]) == 2


def test_parameters_in_numbers():
    assert len(DualEncoderXC().get_params(deep=False)) <= 20
    assert repr(DualEncoderXC().set_params(votes__weight=0.5)) == (
        "DualEncoderXC(votes=NeighborVotes(weight=0.5))"
    )


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"encoder": 3}, "'encoder' parameter"),
        ({"encoder": "no/such/folder"}, "no/such/folder' cannot be read"),
        ({"loss": "hinge"}, "'loss' parameter"),
        ({"loss": DecoupledSoftmax(temperature=0.0)}, "'temperature' parameter of DecoupledSoftm"),
        ({"negatives": "hard"}, "'negatives' parameter"),
        ({"negatives": Mined(depth=0)}, "'depth' parameter of Mined"),
        ({"negatives": InBatch(n_positives=0)}, "'n_positives' parameter of InBatch"),
        ({"negatives": InBatch(refresh_every=0)}, "'refresh_every' parameter of InBatch"),
        ({"label_vectors": "later"}, "'label_vectors' parameter"),
        ({"label_vectors": True}, "'label_vectors' parameter"),
        ({"label_vectors": JointVectors(dropout=1.0)}, "'dropout' parameter of JointVectors"),
        (
            {"label_vectors": ClassifierStage(n_epochs=-1)},
            "'n_epochs' parameter of ClassifierStage",
        ),
        ({"votes": True}, "'votes' parameter"),
        ({"votes": NeighborVotes(weight=-1.0)}, "'weight' parameter of NeighborVotes"),
        ({"votes": NeighborVotes(n_neighbors=0)}, "'n_neighbors' parameter of NeighborVotes"),
        ({"votes": NeighborVotes(temperature=0.0)}, "'temperature' parameter of NeighborVotes"),
        ({"label_queries": LabelQueries(weight=-1.0)}, "'weight' parameter of LabelQueries"),
        ({"index": "annoy"}, "'index' parameter"),
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"training": Training(micro_batch_size=0)}, "'micro_batch_size' parameter of Training"),
        ({"training": Training(precision="float16")}, "'precision' parameter of Training"),
        ({"training": Training(patience=0)}, "'patience' parameter of Training"),
        ({"training": Training(max_grad_norm=0.0)}, "'max_grad_norm' parameter of Training"),
        ({"training": Training(checkpoint_dir=3)}, "'checkpoint_dir' parameter of Training"),
        ({"calibration": "never"}, "'calibration' parameter"),
        ({"device": "gpu"}, "`device` must name a device of this machine, but 'gpu' is not one"),
        ({"vectorizer": TfidfVectorizer(), "encoder": "bag", "threshold": 2}, "'threshold'"),
    ],
)
def test_bad_parameters(planted, params, message):
    with pytest.raises(ValueError, match=message) as caught:
        fit(planted, **params)
    assert "Traceback" not in str(caught.value)


def test_batch_sizes():
    model = DualEncoderXC()
    sizes = {
        n: model._size_of_batches(n) for n in (1, 100, 511, 512, 1023, 1024, 5000, 8192, 10**6)
    }
    assert sizes == {
        1: 64, 100: 64, 511: 64, 512: 64, 1023: 64, 1024: 128, 5000: 512, 8192: 1024, 10**6: 1024
    }  # fmt: skip
    assert DualEncoderXC(batch_size=7)._size_of_batches(10**6) == 7


# ---- what a fit says about itself


def test_figures(planted):
    model = fit(planted, negatives=InBatch(n_positives=1), n_epochs=4)
    assert model.n_iter_ == len(model.history_) == 4
    assert model.history_[-1]["loss"] < model.history_[0]["loss"]
    assert 1 <= model.pool_size_ <= 40
    assert 1 <= model.positives_per_query_in_pool_ <= planted.train_labels.sum(axis=1).max()
    assert model.masked_fraction_ == 0
    assert fit(planted, negatives="all", n_epochs=1).pool_size_ == 40


def test_texts_without_label_texts_are_named(planted):
    model = DualEncoderXC(**QUICK)
    with pytest.warns(LabelTextWarning, match="there are no label texts"):
        model.fit(planted.train_texts, planted.train_labels)
    assert model.score(planted.test_texts, planted.test_labels) > 0.2


def test_rows_that_cannot_be_averaged_need_label_features(planted):
    with pytest.raises(ValueError, match="`label_features` must be given for TransformerEncoder"):
        DualEncoderXC(encoder="some/folder").fit(planted.train_texts, planted.train_labels)


def test_global_generators_and_threads_are_left_alone(planted):
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    threads = torch.get_num_threads()
    seen = []
    model = DualEncoderXC(**QUICK, training=Training(n_jobs=1))
    model._size_of_batches = lambda n: (seen.append(torch.get_num_threads()), 64)[1]
    model.fit(planted.train_texts, planted.train_labels, label_features=planted.label_texts)
    assert set(seen) == {1}
    assert torch.get_num_threads() == threads
    pickle.loads(pickle.dumps(model.encoder_)).encode(model.encoder_.prepare(["a"]))
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_threads_come_back_after_an_error(planted):
    before = torch.get_num_threads()
    model = DualEncoderXC(**QUICK, training=Training(n_jobs=1))
    model._size_of_batches = lambda n: 1 / 0
    torch.set_num_threads(2)
    try:
        with pytest.raises(ZeroDivisionError):
            model.fit(planted.train_texts, planted.train_labels, label_features=planted.label_texts)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("verbose", [0, 1])
def test_progress_bar(planted, verbose, capsys):
    stage = ClassifierStage(n_epochs=1)
    fit(planted, verbose=verbose, label_vectors=stage, calibration="refit")
    out, err = capsys.readouterr()
    assert out == ""
    assert ("encoder" in err and "classifier" in err) == bool(verbose)
    assert ("encoder, held-out fit" in err and "encoder, fit on all rows" in err) == bool(verbose)
    assert bool(err) == bool(verbose)


# ---- state


def test_state_holds_no_torch(model, planted):
    data = pickle.dumps(model)
    assert b"torch" not in data
    again = pickle.loads(data)
    assert_same_model(model, again, planted.test_texts[:20])


def test_a_model_of_a_frozen_encoder(planted):
    model = fit(planted, encoder=FrozenEncoder(BagEncoder(dim=64), dim=16), n_epochs=5)
    assert_same_model(model, pickle.loads(pickle.dumps(model)), planted.test_texts[:20])
    assert model.score(planted.test_texts, planted.test_labels) > 0.3


def test_embeddings_as_samples(features):
    X, y, side = features
    model = DualEncoderXC(encoder=FrozenEncoder(), n_epochs=3, random_state=0)
    for label_features in (side.toarray(), None):
        model.fit(X.toarray(), y, label_features=label_features)
        assert precision_at_k(y, model.decision_function(X.toarray()), 1) > 0.3
    assert dense(model.decision_function(X)).shape == (60, 9)


def test_micro_batches_change_nothing(planted):
    first, second = fit(planted), fit(planted, training=Training(micro_batch_size=17))
    np.testing.assert_allclose(
        first.transform(planted.test_texts), second.transform(planted.test_texts), atol=2e-3
    )
    np.testing.assert_allclose(first.classifier_weights_, second.classifier_weights_, atol=2e-3)


def test_early_stopping_on_very_few_rows(features):
    X, y, _ = features
    training = Training(patience=3)
    model = DualEncoderXC(training=training, n_epochs=2, random_state=0).fit(X[:6], y[:6])
    assert model.n_iter_ == 2
    assert "held_out" not in model.history_[0]


def test_early_stopping(planted):
    training = Training(patience=1)
    model = fit(planted, training=training, n_epochs=40, learning_rate=0.03)
    held_out = [record["held_out"] for record in model.history_]
    assert model.n_iter_ < 40
    assert held_out[-1] <= max(held_out[:-1])
    assert (np.diff(held_out[:-1]) > 0).all()


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"label_vectors": ClassifierStage(n_epochs=1), "votes": NeighborVotes(weight=0.2)},
        {"label_vectors": False, "votes": False, "loss": DecoupledSoftmax(temperature=0.1)},
        {"encoder": FrozenEncoder(BagEncoder(dim=8), dim=4), "training": Training(patience=2)},
        {"graph": "cooccurrence", "negatives": Mined(depth=5), "label_queries": LabelQueries()},
    ],
    ids=["defaults", "stage", "pure", "frozen", "graph"],
)
@pytest.mark.filterwarnings("ignore:The graph masks")
def test_saved_models(planted, params, tmp_path):
    model = fit(planted, n_epochs=1, **params)
    model.add_labels([planted.label_texts[3]])
    model.save(tmp_path / "model")
    again = skxc.load(tmp_path / "model")
    assert_same_model(model, again, planted.test_texts[:20])
    for first, second in zip(
        model.predict_topk(planted.test_texts, 41),
        again.predict_topk(planted.test_texts, 41),
        strict=True,
    ):
        np.testing.assert_array_equal(first, second)
    assert repr(again) == repr(model)
    again.fit(planted.train_texts, planted.train_labels, label_features=planted.label_texts)
    assert again.n_labels_ == 40


def test_the_cpu_by_name(planted):
    named, auto = fit(planted, device="cpu"), fit(planted, device="auto")
    if torch.cuda.is_available():
        pytest.skip('"auto" is another device here')
    assert_same_model(named, auto, planted.test_texts[:9])


# ---- a fitted model is whole or absent


class Interrupted(DualEncoderXC):
    """Its training breaks off where `breaks` says so."""

    breaks = None

    def _model(self, fit, task, progress=None):
        if self.breaks is not None and progress is not None:
            raise self.breaks
        return super()._model(fit, task, progress)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_training_changes_nothing(planted, error):
    names = [f"name {label}" for label in range(40)]
    model = Interrupted(**{**QUICK, "n_epochs": 1})
    model.breaks = error
    with pytest.raises(error):
        model.fit(planted.train_texts, planted.train_labels, label_features=planted.label_texts)
    with pytest.raises(NotFittedError):
        model.predict_topk(planted.test_texts)
    assert [name for name in vars(model) if name.endswith("_")] == []
    model.breaks = None
    texts = LabelTexts(planted.label_texts, names=names)
    model.fit(planted.train_texts, planted.train_labels, label_features=texts)
    probabilities = model.predict_proba(planted.test_texts).toarray()
    answers = model.predict_labels(planted.test_texts, 3)
    model.breaks = error
    with pytest.raises(error):
        model.fit(planted.test_texts, planted.test_labels[:, :9])
    np.testing.assert_array_equal(model.predict_proba(planted.test_texts).toarray(), probabilities)
    assert model.predict_labels(planted.test_texts, 3) == answers
    assert model.n_labels_ == 40


def test_a_vectoriser_that_fails_changes_nothing(planted):
    model = fit(planted, n_epochs=1, vectorizer=TfidfVectorizer())
    before = state_of(model)
    with pytest.raises(ValueError, match="empty vocabulary"):
        model.fit(["a", "b"] * 10, planted.train_labels[:20])
    assert state_of(model) == before


def test_what_is_not_fitted_is_not_saved(tmp_path):
    with pytest.raises(NotFittedError):
        DualEncoderXC().save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_probabilities_follow_the_votes():
    """Rows are kept with "held_out", so changed votes are calibrated anew."""
    data = make_planted_xc(2500, 40, n_test=1500, unseen_fraction=0.0, random_state=0)
    options = {"calibration": "held_out", "n_epochs": 2, "top_k": 5}
    model = fit(data, **options)
    first = model._current_calibrator()
    for votes in (False, NeighborVotes(weight=3.0), None):
        changed = model.set_params(votes=votes).predict_proba(data.test_texts)
        # Votes take no part in training, so a fit with them has the same model and held-out rows.
        expected = fit(data, **options, votes=votes).predict_proba(data.test_texts)
        np.testing.assert_array_equal(changed.toarray(), expected.toarray())
    model.set_params(votes__weight=3.0)
    error = ece_at_k(data.test_labels, model.predict_proba(data.test_texts), k=1)
    stale = first.transform(model.decision_function(data.test_texts))
    assert error < 0.1
    assert ece_at_k(data.test_labels, stale, k=1) > error + 0.05


def test_changed_votes_without_kept_rows_have_no_probabilities(planted):
    model = fit(planted, n_epochs=1, calibration="refit").set_params(votes__weight=1.0)
    with pytest.raises(ValueError, match=r"\['votes'\] of DualEncoderXC were changed after fit"):
        model.predict_proba(planted.test_texts)
    assert model.predict_topk(planted.test_texts, 2)[0].shape == (150, 2)
    plain = fit(planted, n_epochs=1, calibration=None)
    with pytest.raises(AttributeError, match="predict_proba"):
        plain.predict_proba(planted.test_texts)


def test_a_changed_parameter_is_validated_when_it_is_used(planted, model):
    again = copy.copy(model).set_params(votes=NeighborVotes(n_neighbors=0))
    with pytest.raises(ValueError, match="'n_neighbors' parameter of NeighborVotes"):
        again.predict_topk(planted.test_texts, 2)


def test_samples_that_are_labels_are_calibrated_as_they_are_predicted(planted, monkeypatch):
    """A label with the text of the sample is never right here, so it is no answer anywhere."""
    seen = []

    class Recorder:
        def __init__(self, **_):
            pass

        def fit(self, *arguments):
            seen.append(arguments)

    monkeypatch.setattr("skxc.calibration.TopKCalibrator", Recorder)
    texts = np.array(planted.label_texts, dtype=object)
    y = sp.csr_array(np.roll(np.eye(40), 1, axis=1))
    weight = np.arange(1.0, 41.0)
    model = DualEncoderXC(**QUICK).fit(texts, y, label_features=texts, sample_weight=weight)
    scores, truth, given = seen[0]
    assert scores.shape == truth.shape == (8, 40)
    own = (truth.indices - 1) % 40
    np.testing.assert_array_equal(given, weight[own])
    for answers, labels in ((scores, own), (model.decision_function(texts), np.arange(40))):
        np.testing.assert_array_equal(np.diff(answers.indptr), 39)
        stored = [
            answers.indices[slice(*answers.indptr[row : row + 2])]
            for row in range(answers.shape[0])
        ]
        assert all(label not in row for label, row in zip(labels, stored, strict=True))
