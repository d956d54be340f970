import copy
import pickle
import tracemalloc
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV

import skxc
from skxc import DualEncoderXC, LabelGraph, LabelTexts
from skxc.datasets import make_planted_xc
from skxc.encoders import BagEncoder, FrozenEncoder
from skxc.estimators import _encoder_base, _neural
from skxc.exceptions import LabelTextWarning
from skxc.indices import ExactIndex
from skxc.metrics import precision_at_k
from skxc.negatives import Mined
from skxc.ranking import neighbor_votes
from tests.toys import assert_same_model, dense

torch = pytest.importorskip("torch")

QUICK = {"n_epochs": 3, "random_state": 0, "batch_size": 64, "encoder": BagEncoder(dim=32)}


def fit(data, **params):
    """Return a quickly trained model, without the second training of small data."""
    model = DualEncoderXC(**{**QUICK, **params})
    model._gives_rows_back = lambda n_samples: False
    model.fit(data.train_texts, data.train_labels, label_features=data.label_texts)
    del model._gives_rows_back
    return model


@pytest.fixture(scope="module")
def model(planted):
    return fit(planted, n_epochs=10)


def state_of(model):
    """Return everything a model holds, as one comparable value."""
    return pickle.dumps({k: v for k, v in model.__getstate__().items() if k != "_built_indices"})


def full_scores(model, texts):
    """Return the dense scores of all labels, from public pieces and by loops over rows."""
    queries = model.transform(texts)
    vectors = model.label_embeddings_
    if model.classifier_weights_ is not None:
        vectors = model.classifier_weights_
        if model.fusion == "sum":
            vectors = (vectors + model.label_embeddings_) / 2
    scores = queries @ vectors.T
    weight = model.neighbor_weight_ if model.neighbor_weight == "auto" else model.neighbor_weight
    if weight:
        for row, query in enumerate(queries):
            similarity = model.sample_embeddings_ @ query
            near = np.argsort(-similarity, kind="stable")[: model.n_neighbors]
            mass = np.exp(similarity[near] / model.neighbor_temperature)
            mass *= model.sample_weights_[near]
            scores[row] += weight * (mass / mass.sum()) @ model.sample_votes_[near].toarray()
    return scores


# ---- learning


def test_it_learns_what_label_words_mean():
    """Samples and labels share no word, so everything has to be learned."""
    data = make_planted_xc(300, 40, n_test=150, unseen_fraction=0.0, random_state=0)
    options = {"neighbor_weight": 0.0, "classifier_stage": False}
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
@pytest.mark.parametrize("classifier_stage", ["joint", True, False])
def test_all_negatives_and_stages_learn(planted, negatives, classifier_stage):
    model = fit(
        planted,
        negatives=negatives,
        classifier_stage=classifier_stage,
        refresh_every=1,
        classifier_epochs=2,
        n_epochs=5,
        neighbor_weight=0.0,
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
                temperature=0.05,
                negatives="all",
                classifier_stage=False,
                neighbor_weight=0.0,
                random_state=seed,
            )
            figures[loss] += model.score(data.test_texts, data.test_labels) / 3
    assert figures["decoupled"] > figures["softmax"] + 0.01
    assert figures["softmax"] > figures["bce"] + 0.1


# ---- prediction against loops


@pytest.mark.parametrize("neighbor_weight", [0.0, 0.3, "auto"])
@pytest.mark.parametrize("fusion", ["none", "sum"])
def test_scores(planted, neighbor_weight, fusion):
    model = fit(planted, neighbor_weight=neighbor_weight, fusion=fusion, n_neighbors=7)
    texts = planted.test_texts[:20]
    expected = full_scores(model, texts)
    for k in (1, 5, 40):
        labels, scores = model.predict_topk(texts, k)
        for row in range(20):
            best = -np.sort(-expected[row])[:k]
            np.testing.assert_allclose(scores[row], best, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(expected[row, labels[row]], best, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("params", [{}, {"fusion": "tree"}, {"fusion": "sum"}])
def test_topk_are_the_best_of_decision_function(planted, params):
    model = fit(planted, top_k=8, **params)
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
    queries = model.transform(planted.test_texts[:9])
    near, similarity = model._index("samples").search(queries, 50)
    votes = neighbor_votes(
        near, similarity, model.sample_votes_, model.sample_weights_, model.neighbor_temperature
    )
    mine = model._votes(queries)
    np.testing.assert_array_equal(votes.values, mine.values)
    assert len(model.sample_embeddings_) == model.sample_votes_.shape[0]


def test_parameters_of_prediction_can_change_after_fit(planted, model):
    again = copy.copy(model).set_params(neighbor_weight=0.9, n_neighbors=3, top_k=5)
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


def test_blocks_of_queries(planted, model, monkeypatch):
    expected = model.predict_topk(planted.test_texts, 6)
    monkeypatch.setattr(_neural, "BLOCK_ROWS", 7)
    for first, second in zip(model.predict_topk(planted.test_texts, 6), expected, strict=True):
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
        n_epochs=1, encoder=BagEncoder(dim=8), top_k=10, n_neighbors=10, random_state=0
    ).fit(X, y)
    tracemalloc.start()
    model.decision_function(X)
    model.predict(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * n_labels * 4 / 4


# ---- classifier stage and fusion


def test_an_untrained_classifier_ranks_like_the_encoder(planted):
    options = {"neighbor_weight": 0.0, "negatives": "in_batch"}
    pure = fit(planted, classifier_stage=False, **options)
    start = fit(planted, classifier_stage=True, classifier_epochs=0, **options)
    np.testing.assert_allclose(start.classifier_weights_, pure.label_embeddings_, atol=1e-6)
    first, second = (m.predict_topk(planted.test_texts, 10)[0] for m in (pure, start))
    assert np.mean(first == second) > 0.995  # rounding may swap near ties


def test_the_classifier_stage_raises_precision_and_leaves_the_encoder():
    """On labels with many rows, and where the encoder was trained for a short time."""
    gains = []
    for seed in range(2):
        data = make_planted_xc(800, 30, n_test=400, unseen_fraction=0.0, random_state=seed)
        options = {"neighbor_weight": 0.0, "n_epochs": 2, "random_state": seed}
        pure = fit(data, classifier_stage=False, **options)
        staged = fit(data, classifier_stage=True, classifier_epochs=10, **options)
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
        classifier_stage=True,
        classifier_epochs=0,
        graph=sp.csr_array(graph),
        graph_weight=0.0,
        mask_neighbors=False,
    )
    texts, start = model.label_embeddings_, model.classifier_weights_
    expected = texts[3] + (texts[5] + 3 * texts[6]) / 4
    np.testing.assert_allclose(start[3], expected / np.linalg.norm(expected), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.delete(start, 3, axis=0), np.delete(texts, 3, axis=0), atol=1e-6)


def test_fusion_is_the_mean_of_both_cosines(planted):
    model = fit(planted, classifier_stage=True, classifier_epochs=3, neighbor_weight=0.0)
    texts = planted.test_texts[:10]
    queries = model.transform(texts)
    sides = [queries @ v.T for v in (model.label_embeddings_, model.classifier_weights_)]
    for fusion, expected in (("none", sides[1]), ("sum", (sides[0] + sides[1]) / 2)):
        labels, scores = copy.copy(model).set_params(fusion=fusion).predict_topk(texts, 40)
        actual = np.empty_like(expected)
        np.put_along_axis(actual, labels.astype(np.int64), scores, axis=1)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", ["text", "classifier"])
def test_the_fusion_of_a_side_with_itself_ranks_like_it(planted, side):
    model = fit(planted, classifier_stage=True, classifier_epochs=3, neighbor_weight=0.0)
    texts = planted.test_texts[:40]
    vectors = model.label_embeddings_ if side == "text" else model.classifier_weights_
    model.label_embeddings_ = model.classifier_weights_ = vectors
    model._built_indices = {}
    expected = model.predict_topk(texts, 10)[0]
    np.testing.assert_array_equal(
        model.set_params(fusion="sum").predict_topk(texts, 10)[0], expected
    )


def test_fusion_changes_nothing_without_a_classifier(planted):
    none, both = (fit(planted, classifier_stage=False, fusion=fusion) for fusion in ("none", "sum"))
    tree = fit(planted, classifier_stage=False, fusion="tree")
    assert tree.score_tree_ is None
    for other in (both, tree):
        assert_same_model(none, other, planted.test_texts[:20])


def test_fusion_by_a_tree_of_held_out_rows(planted):
    model = fit(
        planted,
        classifier_stage=True,
        classifier_epochs=5,
        fusion="tree",
        neighbor_weight=0.0,
        top_k=6,
    )
    texts = planted.test_texts[:25]
    queries = model.transform(texts)
    text, classifier = (queries @ v.T for v in (model.label_embeddings_, model.classifier_weights_))
    from skxc.metrics import inverse_propensity

    rare = inverse_propensity(model.trained_frequency_, model.n_trained_samples_)
    labels, scores = model.predict_topk(texts, 6)
    for row in range(25):
        pairs = {}
        for side in (text, classifier):
            for label in np.argsort(-side[row], kind="stable")[:6]:
                three = [classifier[row, label], text[row, label], rare[label]]
                chance = model.score_tree_.predict_proba([three])[0]
                pairs[label] = three[0] + three[1] + chance
        best = sorted(pairs.values(), reverse=True)[:6]
        np.testing.assert_allclose(scores[row], best, rtol=1e-3, atol=1e-4)
        assert set(labels[row]) <= set(pairs)
    assert model.score(planted.test_texts, planted.test_labels) > 0.4


def test_the_score_tree_knows_no_frequencies_of_held_out_rows(planted, monkeypatch):
    """A label that only held-out rows have must look unseen, or its weight tells what is right."""
    held_out = []

    def remember(self, data, rows, fit=DualEncoderXC._fit):
        held_out.append(rows.y)
        fit(self, data, rows)

    monkeypatch.setattr(DualEncoderXC, "_fit", remember)
    settings = {"classifier_stage": True, "classifier_epochs": 1, "n_epochs": 1, "fusion": "tree"}
    model = fit(planted, **settings)
    (y,) = held_out
    assert y.nnz > 0
    hidden = np.asarray(y.sum(axis=0)).ravel()
    np.testing.assert_allclose(model.trained_frequency_, model.label_frequency_ - hidden)
    assert model.n_trained_samples_ == model.n_samples_fit_ - y.shape[0]
    features = model._tree_features(
        model.transform(planted.test_texts[:1]),
        np.zeros(model.n_labels_, dtype=int),
        np.arange(model.n_labels_),
    )
    from skxc.metrics import inverse_propensity

    expected = inverse_propensity(model.label_frequency_ - hidden, model.n_trained_samples_)
    np.testing.assert_allclose(features[:, 2], expected, rtol=1e-6)


def test_new_labels_have_no_frequency_for_the_score_tree(planted):
    settings = {"classifier_stage": True, "classifier_epochs": 1, "n_epochs": 1, "fusion": "tree"}
    model = fit(planted, **settings)
    model.add_labels([planted.test_texts[0]])
    assert model.trained_frequency_[-1] == 0
    assert np.isfinite(model.decision_function(planted.test_texts[:3]).data).all()


@pytest.mark.parametrize("n", [1, 2, 3, 12])
def test_fusion_by_a_tree_on_very_few_rows(features, n):
    X, y, _ = features
    for stage in ("joint", True):
        model = DualEncoderXC(
            fusion="tree", n_epochs=1, classifier_stage=stage, classifier_epochs=1, random_state=0
        ).fit(X[:n], y[:n])
        assert np.isfinite(model.predict_proba(X).data).all()


# ---- new labels


@pytest.mark.filterwarnings("ignore:100% of the words")
def test_a_new_label_is_found_by_its_text(planted):
    """Label 0 is taken out of training and added by its text afterwards."""
    for stage in (False, "joint", True):
        model = DualEncoderXC(**{**QUICK, "n_epochs": 8}, classifier_stage=stage).fit(
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
@pytest.mark.parametrize("stage", [False, "joint", True])
def test_added_labels(planted, stage, tmp_path):
    model = fit(planted, classifier_stage=stage, classifier_epochs=1, fusion="sum")
    searched = model.predict_topk(planted.test_texts, 3)
    samples = model._index("samples")
    assert model.add_labels(LabelTexts(["river bank", "stone bridge"])) is model
    assert len(model.label_embeddings_) == model.n_labels_ == 42
    assert model.sample_votes_.shape[1] == 42
    assert model._index("samples") is samples, "training rows need no new index"
    new = model.encoder_.encode(model.encoder_.prepare(["river bank", "stone bridge"]))
    np.testing.assert_array_equal(model.label_embeddings_[40:], new)
    if stage:
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
@pytest.mark.parametrize("classifier_stage", ["joint", True])
def test_a_graph_without_edges_changes_nothing(planted, graph, classifier_stage):
    params = {"classifier_stage": classifier_stage, "classifier_epochs": 1}
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
            "mask_neighbors": False,
            "graph_weight": 1.0,
            "neighbor_weight": 0.0,
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
    real = _encoder_base.cooccurrence
    monkeypatch.setattr(
        _encoder_base, "cooccurrence", lambda y: (seen.append(y.shape[0]), real(y))[1]
    )
    model = fit(planted, graph="cooccurrence", n_epochs=1)
    assert set(seen) == {model.sample_votes_.shape[0]}
    assert seen[0] < 300, "without the held-out rows"
    with pytest.raises(ValueError, match="'friends' was given"):
        fit(planted, graph="friends")


def test_much_masking_is_named(planted):
    full = sp.csr_array(np.ones((40, 40)))
    with pytest.warns(UserWarning, match=r"The graph masks \d+% of all negatives"):
        model = fit(planted, graph=full, graph_weight=0.0)
    assert model.masked_fraction_ > 0.5


# ---- weights and canonical rows


@pytest.mark.parametrize("params", [{}, {"negatives": "mined", "refresh_every": 1}])
def test_weights_repetitions_and_order(features, params):
    X, y, side = features
    weight = np.random.default_rng(1).integers(0, 3, size=60)
    weight[[4, 9]] = [0, 2]
    repeated = np.random.default_rng(2).permutation(np.repeat(np.arange(60), weight))
    for label_features in (side, None):
        model = DualEncoderXC(**QUICK, **params)
        first = clone(model).fit(X, y, sample_weight=weight, label_features=label_features)
        second = clone(model).fit(X[repeated], y[repeated], label_features=label_features)
        assert_same_model(first, second, X)
        np.testing.assert_array_equal(first.label_frequency_, second.label_frequency_)


def test_weights_count(features):
    X, y, _ = features
    weight = np.where(y[:, [0]].toarray()[:, 0] > 0, 50.0, 1.0)
    plain, heavy = (
        DualEncoderXC(**QUICK, neighbor_weight=0.0).fit(X, y, sample_weight=w)
        for w in (None, weight)
    )
    assert (plain.label_embeddings_ != heavy.label_embeddings_).any()


def test_labels_without_features_are_weighted_averages_of_their_rows(features):
    X, y, _ = features
    weight = np.random.default_rng(0).random(60) + 0.5
    model = DualEncoderXC(
        encoder=BagEncoder(dim=6, residual=False),
        learning_rate=1e-12,
        n_epochs=1,
        classifier_stage=False,
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


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"encoder": 3}, "'encoder' parameter"),
        ({"encoder": "no/such/folder"}, "no/such/folder' cannot be read"),
        ({"loss": "hinge"}, "'loss' parameter"),
        ({"temperature": 0.0}, "'temperature' parameter"),
        ({"negatives": "hard"}, "'negatives' parameter"),
        ({"negatives": Mined(depth=0)}, "'depth' parameter"),
        ({"n_positives": 0}, "'n_positives' parameter"),
        ({"classifier_stage": "later"}, "'classifier_stage' parameter"),
        ({"fusion": "product"}, "'fusion' parameter"),
        ({"neighbor_weight": -1.0}, "'neighbor_weight' parameter"),
        ({"index": "annoy"}, "'index' parameter"),
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"micro_batch_size": 0}, "'micro_batch_size' parameter"),
        ({"precision": "float16"}, "'precision' parameter"),
        ({"checkpoint_dir": 3}, "'checkpoint_dir' parameter"),
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
    sizes = {n: model._batch_size(n) for n in (1, 100, 511, 512, 1023, 1024, 5000, 8192, 10**6)}
    assert sizes == {
        1: 64, 100: 64, 511: 64, 512: 64, 1023: 64, 1024: 128, 5000: 512, 8192: 1024, 10**6: 1024
    }  # fmt: skip
    assert DualEncoderXC(batch_size=7)._batch_size(10**6) == 7


# ---- what a fit says about itself


def test_figures(planted):
    model = fit(planted, n_positives=1, negatives="in_batch", n_epochs=4)
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
    model = DualEncoderXC(**QUICK, n_jobs=1)
    model._batch_size = lambda n: (seen.append(torch.get_num_threads()), 64)[1]
    model.fit(planted.train_texts, planted.train_labels, label_features=planted.label_texts)
    assert set(seen) == {1}
    assert torch.get_num_threads() == threads
    pickle.loads(pickle.dumps(model.encoder_)).encode(model.encoder_.prepare(["a"]))
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_threads_come_back_after_an_error(planted):
    before = torch.get_num_threads()
    model = DualEncoderXC(**QUICK, n_jobs=1)
    model._batch_size = lambda n: 1 / 0
    torch.set_num_threads(2)
    try:
        with pytest.raises(ZeroDivisionError):
            model.fit(planted.train_texts, planted.train_labels, label_features=planted.label_texts)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("verbose", [0, 1])
def test_progress_bar(planted, verbose, capsys):
    fit(planted, verbose=verbose, classifier_stage=True, classifier_epochs=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("encoder" in err and "classifier" in err) == bool(verbose)
    assert bool(err) == bool(verbose)


# ---- state


def test_state_holds_no_torch(model, planted):
    data = pickle.dumps(model)
    assert b"torch" not in data
    again = pickle.loads(data)
    assert_same_model(model, again, planted.test_texts[:20])
    assert again._built_indices != model._built_indices or not model._built_indices


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
    first, second = fit(planted), fit(planted, micro_batch_size=17)
    np.testing.assert_allclose(
        first.transform(planted.test_texts), second.transform(planted.test_texts), atol=2e-3
    )
    np.testing.assert_allclose(first.classifier_weights_, second.classifier_weights_, atol=2e-3)


def test_early_stopping_on_very_few_rows(features):
    X, y, _ = features
    model = DualEncoderXC(early_stopping=True, n_epochs=2, random_state=0).fit(X[:6], y[:6])
    assert model.n_iter_ == 2
    assert "held_out" not in model.history_[0]


def test_early_stopping(planted):
    model = fit(planted, early_stopping=True, n_iter_no_change=1, n_epochs=40, learning_rate=0.03)
    held_out = [record["held_out"] for record in model.history_]
    assert model.n_iter_ < 40
    assert held_out[-1] <= max(held_out[:-1])
    assert (np.diff(held_out[:-1]) > 0).all()


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"classifier_stage": True, "classifier_epochs": 1, "fusion": "tree"},
        {"classifier_stage": False, "neighbor_weight": 0.0},
        {"encoder": FrozenEncoder(BagEncoder(dim=8), dim=4), "fusion": "sum"},
        {"warm_start": True, "graph": "cooccurrence", "negatives": Mined(depth=5)},
    ],
    ids=["defaults", "tree", "pure", "frozen", "warm"],
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
    again.set_params(warm_start=False)
    again.fit(planted.train_texts, planted.train_labels, label_features=planted.label_texts)
    assert again.n_labels_ == 40


def test_the_cpu_by_name(planted):
    named, auto = fit(planted, device="cpu"), fit(planted, device="auto")
    if torch.cuda.is_available():
        pytest.skip('"auto" is another device here')
    assert_same_model(named, auto, planted.test_texts[:9])


def test_probabilities_are_calibrated_without_the_sample_as_its_own_label(planted, monkeypatch):
    """A label with the text of the sample is no answer, so its score teaches nothing."""
    seen = []
    monkeypatch.setattr(
        _neural,
        "TopKCalibrator",
        lambda: SimpleNamespace(fit=lambda *arguments: seen.append(arguments)),
    )
    texts = np.array(planted.label_texts, dtype=object)
    y = sp.csr_array(np.roll(np.eye(40), 1, axis=1))
    weight = np.arange(1.0, 41.0)
    model = DualEncoderXC(**QUICK).fit(texts, y, label_features=texts, sample_weight=weight)
    assert model.sample_votes_.shape == (40, 40)
    scores, truth, given = seen[0]
    assert scores.shape == truth.shape == (8, 40)
    np.testing.assert_array_equal(np.diff(scores.indptr), 39)
    for row in range(8):
        label = truth[[row]].indices[0]
        assert scores[row, label] != 0
        own = label - 1 if label else 39
        assert own not in scores[[row]].indices
        assert given[row] == weight[own]
