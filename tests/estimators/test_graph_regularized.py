"""GraphRegularizedXC: the base without a graph, the graph's inputs, and what a graph buys."""

import copy
import pickle
import warnings
from dataclasses import replace

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV, KFold

import skxc
from skxc import AnchorGraph, DualEncoderXC, GraphRegularizedXC, LabelGraph, LabelTexts
from skxc._training_set import training_set
from skxc.datasets import make_planted_xc
from skxc.encoders import BagEncoder
from skxc.exceptions import GraphWarning
from skxc.graphs import Pruning, RandomWalk
from skxc.model_selection import cross_val_predict
from skxc.training import LabelQueries
from tests.toys import assert_same_model, dense

torch = pytest.importorskip("torch")

from skxc.estimators._dual_encoder.classifier import ClassifierStage  # noqa: E402
from skxc.estimators._graph_regularized.bandit import Bandit  # noqa: E402
from skxc.estimators._graph_regularized.edges import graph_terms  # noqa: E402
from skxc.estimators._graph_regularized.terms import GraphTerms  # noqa: E402
from skxc.training import Training  # noqa: E402

BASE = {
    "n_epochs": 3,
    "random_state": 0,
    "batch_size": 64,
    "encoder": BagEncoder(dim=16),
    "label_vectors": False,
    "votes": False,
    # No second training of small data.
    "calibration": "held_out",
}
EARLY = Pruning(warmup=1, interval=1)
FIRST = GraphTerms(n_epochs=2)
BESIDE = GraphTerms(schedule="fade", prune=EARLY)
QUICK = {**BASE, "terms": FIRST}
SCHEDULES = {"first": FIRST, "beside": BESIDE}


@pytest.fixture(scope="module")
def data():
    return make_planted_xc(150, 40, n_test=60, random_state=0)


def sides(data):
    graph, sample_graph = data.anchor_graph("topic")
    return {"graph": graph, "sample_graph": sample_graph}


def fit(data, model=GraphRegularizedXC, X=None, label_features=None, edges=None, **params):
    """Return a quickly trained model; parameters of terms may be given by their names alone."""
    names = GraphTerms().get_params()
    terms = {
        name: params.pop(name) for name in list(params) if name in names and name != "n_epochs"
    }
    if issubclass(model, GraphRegularizedXC):
        params.setdefault("terms", clone(FIRST).set_params(**terms))
    return model(**{**BASE, **params}).fit(
        data.train_texts if X is None else X,
        data.train_labels,
        label_features=data.label_texts if label_features is None else label_features,
        **(sides(data) if edges is None else edges),
    )


def terms_of(data, edges, **options):
    """Return the terms that training would have, and the training data."""
    training = training_set(
        GraphRegularizedXC(),
        data.train_texts,
        data.train_labels,
        label_features=data.label_texts,
        **edges,
    )
    return graph_terms(training, GraphTerms(**options)), training


def losses(model):
    return [record["loss"] for record in model.history_]


# ---- the base


@pytest.mark.parametrize("label_vectors", [False, ClassifierStage(n_epochs=2), "joint"])
@pytest.mark.parametrize("case", ["no graph", "no edge", "no edge beside", "weights 0"])
def test_without_a_graph_the_model_is_the_dual_encoder(data, case, label_vectors):
    given = sides(data)
    empty = {
        "graph": AnchorGraph(0 * given["graph"].to_csr(), texts=given["graph"].texts),
        "sample_graph": 0 * given["sample_graph"],
    }
    edges = {"no graph": {}, "weights 0": given}.get(case, empty)
    terms = BESIDE if case == "no edge beside" else FIRST
    if case == "weights 0":
        terms = clone(BESIDE).set_params(weights=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GraphWarning)
        model = fit(data, edges=edges, terms=terms, label_vectors=label_vectors)
    base = fit(data, DualEncoderXC, edges={}, label_vectors=label_vectors)
    assert losses(model) == losses(base)
    assert model.edge_survival_["epoch"].size == (2 if case == "weights 0" else 0)
    assert_same_model(model, base, data.test_texts)


def test_by_default_all_but_the_terms_is_the_dual_encoder():
    ours, base = (cls().get_params(deep=False) for cls in (GraphRegularizedXC, DualEncoderXC))
    assert ours == base | {"terms": None}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_graph_is_neither_kept_nor_needed(data, schedule):
    given = sides(data)
    model = fit(data, edges=given, terms=SCHEDULES[schedule])
    before = model.predict_topk(data.test_texts, k=5)
    size = len(pickle.dumps(model))
    del given
    again = pickle.loads(pickle.dumps(model)).predict_topk(data.test_texts, k=5)
    np.testing.assert_array_equal(before[0], again[0])
    np.testing.assert_array_equal(before[1], again[1])
    base = fit(data, DualEncoderXC, edges={})
    assert size < len(pickle.dumps(base)) + 10_000
    shapes = [{k: p.shape for k, p in m.encoder_.module_.named_parameters()} for m in (model, base)]
    assert shapes[0] == shapes[1]
    with pytest.raises(TypeError):
        model.predict(data.test_texts, graph=sides(data)["graph"])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_graph_changes_the_model(data, schedule):
    model, base = fit(data, terms=SCHEDULES[schedule]), fit(data, edges={})
    assert losses(model) != losses(base)
    assert not np.array_equal(model.label_embeddings_, base.label_embeddings_)


def test_the_graph_is_learned_before_the_task(data):
    model, base = fit(data, n_epochs=1), fit(data, edges={}, n_epochs=1)
    first = model.loss_history_["graph"]
    assert first.shape == (2,)
    assert first[1] < first[0]
    assert model.loss_history_["task"].tolist() == losses(model)
    assert list(model.graph_weights_) == ["epoch"]
    # Texts that share a topic are alike before the task has seen any label.
    assert losses(model)[0] < losses(base)[0]


def test_early_stopping_watches_the_task_while_the_graph_is_learned(data):
    model = fit(data, n_epochs=40, terms=GraphTerms(n_epochs=30), training=Training(patience=1))
    assert 2 <= len(model.loss_history_["graph"]) < 30


def test_label_queries_beside_the_terms(data):
    edges = {"graph": LabelGraph(data.true_graph)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GraphWarning)
        plain, both = (fit(data, edges=edges, label_queries=q) for q in (False, None))
    assert plain.masked_fraction_ == 0 < both.masked_fraction_
    assert losses(plain) != losses(both)
    assert both.loss_history_["graph"].tolist() == plain.loss_history_["graph"].tolist()
    # Anchors with texts are no graph between labels.
    assert losses(fit(data)) == losses(fit(data, label_queries=False))
    with pytest.raises(ValueError, match="`label_queries` needs a graph between labels"):
        fit(data, label_queries=LabelQueries())


# ---- inputs


def test_graph_and_sample_graph_need_each_other_or_warn(data):
    given = sides(data)
    texts = given["graph"].texts
    cases = {
        "edges of labels only": {"graph": given["graph"]},
        "edges of samples only": {
            **given,
            "graph": AnchorGraph(0 * given["graph"].to_csr(), texts),
        },
        "has no edge": {"graph": AnchorGraph(None, texts=texts)},
    }
    for message, edges in cases.items():
        with pytest.warns(GraphWarning, match=message) as caught:
            fit(data, edges=edges)
        assert len([one for one in caught if one.category is GraphWarning]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", GraphWarning)
        fit(data)
        fit(data, edges={})
        fit(data, edges={"graph": given["graph"]}, sides="labels")
        fit(data, schedule="fade", prune=Pruning(warmup=2))
    with pytest.warns(GraphWarning, match="never pruned: training has 3 epochs"):
        fit(data, schedule="fade", prune=Pruning(warmup=3))


def test_labels_without_edges_have_no_term(data):
    given = sides(data)
    samples_only = {**given, "graph": AnchorGraph(None, texts=given["graph"].texts)}
    with warnings.catch_warnings():
        warnings.simplefilter("error", GraphWarning)
        plain = fit(data, edges=samples_only, schedule="fade")
    assert sorted(plain.graph_weights_) == ["anchors (samples)", "epoch"]
    assert losses(plain) == losses(fit(data, sides="samples", schedule="fade"))
    assert losses(fit(data, edges=samples_only)) == losses(fit(data, sides="samples"))


@pytest.mark.parametrize("holder", [AnchorGraph, LabelGraph, lambda graph: graph])
def test_anchors_that_are_the_labels(data, holder):
    raw = sp.csr_array(data.true_graph)
    rows = sp.csr_array(data.train_labels @ raw)
    for schedule in ("first", "fade"):
        model = fit(data, edges={"graph": holder(raw), "sample_graph": rows}, schedule=schedule)
        given = {"graph": LabelGraph(raw), "sample_graph": rows}
        assert losses(model) == losses(fit(data, edges=given, schedule=schedule))
        assert losses(model) != losses(fit(data, edges={}))
    assert sorted(model.graph_weights_) == ["epoch", "labels (labels)", "labels (samples)"]


def test_a_label_is_never_a_negative_of_itself_or_of_its_rows(data):
    loops = sp.csr_array(data.true_graph + sp.eye_array(40))
    edges = {"graph": loops, "sample_graph": data.train_labels @ data.true_graph}
    (samples, labels), training = terms_of(data, edges)
    np.testing.assert_array_equal(labels.hidden.toarray(), np.eye(40))
    assert not labels.walked.diagonal().any()
    np.testing.assert_array_equal(samples.hidden.toarray() > 0, training.y.toarray() > 0)


def test_equal_texts_are_hidden(data):
    given = sides(data)
    texts = given["graph"].texts.copy()
    texts[0], texts[1] = data.train_texts[5], data.label_texts[7]
    graph = AnchorGraph(given["graph"].to_csr(), texts=texts)
    (samples, labels), training = terms_of(data, {**given, "graph": graph})
    own, y = np.flatnonzero(data.train_texts[5] == training.X), training.y.toarray()
    # Own texts, and those of a sample's labels and of a label's samples: both sides are mirrors.
    expected = {(row, 0) for row in own} | {(row, 1) for row in np.flatnonzero(y[:, 7])}
    assert set(map(tuple, np.argwhere(samples.hidden.toarray()))) == expected
    expected = {(7, 1)} | {(label, 0) for label in np.flatnonzero(y[own].any(axis=0))}
    assert set(map(tuple, np.argwhere(labels.hidden.toarray()))) == expected


def test_anchors_of_one_text_are_one_anchor(data):
    # No two rows are equal, which would become one.
    data = replace(data, train_texts=[f"{i} {text}" for i, text in enumerate(data.train_texts)])
    given = sides(data)
    holder, n = given["graph"], given["graph"].n_anchors
    rng = np.random.default_rng(0)

    def twice(links):
        # Every edge leads to the anchor or to its copy in another graph, or to both.
        kind = rng.integers(3, size=links.nnz)
        halves = []
        for left_out in (0, 1):
            half = links.copy()
            half.data = (kind != left_out).astype(np.float32)
            half.eliminate_zeros()
            halves.append(half)
        return sp.csr_array(sp.hstack(halves))

    texts, groups = [f"anchor{i}" for i in range(n)] * 2, {"a": (0, n), "b": (n, 2 * n)}
    links, rows = sp.csr_array(holder.to_csr()), sp.csr_array(given["sample_graph"])
    graph = AnchorGraph(twice(links), texts=texts, groups=groups)
    terms, _ = terms_of(data, {"graph": graph, "sample_graph": twice(rows)})
    assert [term.name for term in terms] == [
        "a (samples)",
        "a (labels)",
        "b (samples)",
        "b (labels)",
    ]
    plain, _ = terms_of(data, {**given, "graph": AnchorGraph(links, texts=texts[:n])})
    for side, expected in ((term.side, term.walked) for term in plain):
        both = [term for term in terms if term.side == side]
        assert max(term.walked.indices.max() for term in both) < n
        union = sum(term.walked for term in both).toarray() > 0
        np.testing.assert_array_equal(union[:, :n], expected.toarray() > 0)
        for term, other in (both, both[::-1]):
            # What the other graph links is no negative here.
            known = (term.walked + term.hidden).toarray() > 0
            linked = (other.walked.toarray() > 0) & (term.walked.toarray().any(axis=0))
            assert (linked & (term.walked.toarray() == 0)).any()
            assert known[linked].all()


def test_cooccurrence_builds_the_label_side_from_the_training_rows(data):
    model = fit(data, edges={"graph": "cooccurrence"}, sides="labels", schedule="fade")
    assert sorted(model.graph_weights_) == ["epoch", "labels (labels)"]
    both = {"graph": "cooccurrence", "sample_graph": data.train_labels @ data.true_graph}
    assert "labels (samples)" in fit(data, edges=both, schedule="fade").graph_weights_
    with pytest.raises(ValueError, match="39 columns but `graph` has 40"):
        fit(data, edges={**both, "sample_graph": both["sample_graph"][:, 1:]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: {"sample_graph": g["sample_graph"][:-1], "graph": g["graph"]}, "149 rows"),
        (lambda g: {**g, "sample_graph": g["sample_graph"][:, :-1]}, "columns but `graph` has"),
        (lambda g: {"sample_graph": g["sample_graph"]}, "anchors need a text"),
        (lambda g: {**g, "sample_graph": -g["sample_graph"]}, "non-negative"),
        (lambda g: {**g, "sample_graph": g["sample_graph"] * np.nan}, "finite"),
        (
            lambda g: {**g, "graph": AnchorGraph(g["graph"].to_csr()[:-1], g["graph"].texts)},
            "39 labels but `y` has 40",
        ),
    ],
)
def test_malformed_graphs(data, change, message):
    with pytest.raises(ValueError, match=message):
        fit(data, edges=change(sides(data)))


def test_anchors_and_samples_have_one_form(data):
    given = sides(data)
    features = sp.csr_array(np.ones((given["graph"].n_anchors, 5), dtype=np.float32))
    graph = AnchorGraph(given["graph"].to_csr(), texts=features)
    with pytest.raises(ValueError, match="the texts of `graph`` must be texts because `X` holds"):
        fit(data, edges={**given, "graph": graph})
    with pytest.raises(ValueError, match="has 5 columns but `X` has"):
        fit(
            data,
            X=data.train_features,
            label_features=data.label_features,
            edges={**given, "graph": graph},
        )
    with pytest.raises(ValueError, match="must be a matrix because `X` is one"):
        fit(data, X=data.train_features, label_features=data.label_features)


def test_features_and_a_vectorizer(data):
    given = sides(data)
    width = data.train_features.shape[1]
    anchors = np.zeros((given["graph"].n_anchors, width), dtype=np.float32)
    anchors[np.arange(len(anchors)), np.arange(len(anchors)) % width] = 1
    graph = AnchorGraph(given["graph"].to_csr(), texts=sp.csr_array(anchors))
    edges = {**given, "graph": graph}
    model = fit(data, X=data.train_features, label_features=data.label_features, edges=edges)
    base = fit(data, X=data.train_features, label_features=data.label_features, edges={})
    assert losses(model) != losses(base)
    # Words that only anchors have are no features, so they change nothing but themselves.
    tfidf = fit(data, vectorizer=TfidfVectorizer())
    plain = fit(data, vectorizer=TfidfVectorizer(), edges={})
    assert tfidf.vectorizer_.vocabulary_ == plain.vectorizer_.vocabulary_
    texts = [data.train_texts[i] for i in range(given["graph"].n_anchors)]
    same_words = AnchorGraph(given["graph"].to_csr(), texts=texts)
    known = fit(data, vectorizer=TfidfVectorizer(), edges={**given, "graph": same_words})
    assert losses(known) != losses(plain)


# ---- arguments are checked when they have their final form


def test_one_class_per_sample(data):
    classes = np.array([row.argmax() for row in data.train_labels.toarray()])
    names, y = np.unique(classes, return_inverse=True)
    n = len(names)
    graph = sp.csr_array(data.true_graph[names][:, names])
    rows = sp.csr_array((np.ones(150, "f"), (np.arange(150), y)), shape=(150, n))
    texts = [data.label_texts[name] for name in names]
    edges = {"graph": graph, "sample_graph": rows @ graph}
    models = [
        GraphRegularizedXC(**QUICK).fit(data.train_texts, target, label_features=texts, **edges)
        for target in (y, rows)
    ]
    assert losses(models[0]) == losses(models[1])
    assert models[0].predict(data.test_texts).shape == (60,)


def test_a_missing_target_is_named(data):
    with pytest.raises(ValueError, match="requires y to be passed"):
        GraphRegularizedXC(**QUICK).fit(data.train_texts, None, **sides(data))


def test_anchors_with_texts_need_no_label_texts(data):
    with pytest.warns(UserWarning, match="there are no label texts"):
        model = GraphRegularizedXC(**QUICK).fit(data.train_texts, data.train_labels, **sides(data))
    assert np.isfinite(model.loss_history_["graph"]).all()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"other": (1, 1)}, "must have a pair for every graph, but has none for 'topic'"),
        ({"topic": (1,)}, r"must be pairs .* but has \(1,\) for 'topic'"),
        ({"topic": 0.5}, "must be pairs"),
        ({"topic": (1, -1)}, "must be pairs .* of numbers from 0"),
        ({"topic": (1, np.nan)}, "must be pairs .* of numbers"),
        ({"topic": "ab"}, "must be pairs"),
    ],
)
def test_weights_of_graphs_are_pairs(data, weights, message):
    with pytest.raises(ValueError, match=f"`weights` of GraphTerms {message}"):
        fit(data, weights=weights, schedule="fade")


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (GraphTerms(loss="hinge"), "'loss' parameter of GraphTerms"),
        (GraphTerms(weights=-1.0), "'weights' parameter of GraphTerms"),
        (GraphTerms(weights="bandit"), "'weights' parameter of GraphTerms"),
        (GraphTerms(schedule="rise"), "'schedule' parameter of GraphTerms"),
        (GraphTerms(sides="points"), "'sides' parameter of GraphTerms"),
        (GraphTerms(walk="series"), "'walk' parameter of GraphTerms"),
        (GraphTerms(walk=RandomWalk(restart=0)), "'restart' parameter of RandomWalk"),
        (GraphTerms(prune=0.0), "'prune' parameter of GraphTerms"),
        (GraphTerms(prune=Pruning(threshold=2)), "'threshold' parameter of Pruning"),
        (GraphTerms(n_epochs=0), "'n_epochs' parameter of GraphTerms"),
        (GraphTerms(weights=0.1), "`weights` of GraphTerms is for losses beside the task"),
        (GraphTerms(prune=EARLY), "`prune` of GraphTerms is for losses beside the task"),
        (GraphTerms(weights=Bandit(learning_rate=-1)), "'learning_rate' parameter of Bandit"),
        (GraphTerms(weights=Bandit(scale=0.0)), "'scale' parameter of Bandit"),
        (GraphTerms(weights=Bandit(window=0)), "'window' parameter of Bandit"),
        (GraphTerms(weights=Bandit(decay=1.0)), "'decay' parameter of Bandit"),
        (GraphTerms, "'terms' parameter of GraphRegularizedXC"),
    ],
)
def test_bad_parameters(data, terms, message):
    with pytest.raises(ValueError, match=message):
        fit(data, terms=terms)


def test_nested_names_make_their_parts():
    model = GraphRegularizedXC()
    model.set_params(terms__weights__window=3, terms__n_epochs=2, terms__sides="labels")
    assert (model.terms.weights.window, model.terms.n_epochs) == (3, 2)
    assert clone(model).terms.sides == "labels"
    assert len(model.get_params(deep=False)) <= 21
    with pytest.raises(ValueError, match="`walk` of GraphTerms is False"):
        model.set_params(terms__walk__top_k=3)


# ---- folds


class Recorder(GraphRegularizedXC):
    """Fails unless the edges of every training row name that row."""

    def _task(self, fit):
        samples = fit.data.sample_graph
        assert np.diff(samples.indptr).tolist() == [1] * fit.data.n_samples
        named = np.array([f"text{anchor}" for anchor in samples.indices])
        words = np.array([text.split()[0] for text in fit.data.X])
        np.testing.assert_array_equal(named, words)
        return super()._task(fit)


@pytest.mark.parametrize("routing", [False, True])
def test_folds_cut_the_edges_of_samples_and_nothing_else(data, routing):
    n = 40  # as many samples as labels
    X = [f"text{i} {text}" for i, text in enumerate(data.train_texts[:n])]
    y = data.train_labels[:n]
    identity = sp.csr_array(sp.eye_array(n, dtype=np.float32))
    holder = AnchorGraph(sp.csr_array(np.ones((40, n), dtype=np.float32)), texts=X)
    fit_params = {
        "graph": holder,
        "sample_graph": identity,
        "label_features": LabelTexts(data.label_texts),
    }
    model = Recorder(**QUICK)
    with config_context(enable_metadata_routing=routing):
        search = GridSearchCV(model, {"n_epochs": [2]}, cv=2, error_score="raise")
        search.fit(X, y, **fit_params)
        answers = cross_val_predict(model, X, y, cv=KFold(2), params=fit_params)
        assert answers.shape == (n, 40)
        shuffled = {**fit_params, "sample_graph": identity[::-1]}
        with pytest.raises(AssertionError):
            search.fit(X, y, **shuffled)


def test_holders_are_shared_by_clones(data):
    holder = sides(data)["graph"]
    assert copy.deepcopy(holder) is holder
    model = GraphRegularizedXC(**{**QUICK, "graph": holder})
    assert clone(model).graph is holder


def test_memory_maps_as_workers_get_them(data, tmp_path):
    arguments = {
        "graph": LabelGraph(data.true_graph),
        "sample_graph": sp.csr_array(data.train_labels @ data.true_graph),
        "label_features": LabelTexts(data.label_features),
    }
    expected = GraphRegularizedXC(**QUICK).fit(data.train_features, data.train_labels, **arguments)
    given = (GraphRegularizedXC(**QUICK), data.train_features, data.train_labels, arguments)
    joblib.dump(given, tmp_path / "given")
    model, X, y, arguments = joblib.load(tmp_path / "given", mmap_mode="r")
    assert isinstance(arguments["sample_graph"].data, np.memmap)
    assert not arguments["graph"].to_csr().data.flags.writeable
    assert_same_model(model.fit(X, y, **arguments), expected, data.test_features)


# ---- groups, permutations, seeds


def test_permuting_both_sides_together_is_the_same_graph(data):
    """Only the numbers of the anchors change, and with them which ones a seed draws."""
    given = sides(data)
    order = np.random.default_rng(0).permutation(given["graph"].n_anchors)
    holder = given["graph"]
    labels, texts = holder.to_csr()[:, order], holder.texts[order]
    edges = {
        "graph": AnchorGraph(labels, texts=texts, groups=holder.groups),
        "sample_graph": given["sample_graph"][:, order],
    }
    walk = RandomWalk(top_k=10**6)
    walked, permuted = (terms_of(data, one, walk=walk)[0] for one in (given, edges))
    for first, second in zip(walked, permuted, strict=True):
        np.testing.assert_array_equal(first.walked.toarray()[:, order], second.walked.toarray())
    # The first steps move little, so other draws of the same edges give a similar loss.
    first, second = (fit(data, edges=one, n_epochs=1) for one in (given, edges))
    for name, losses_of_epochs in first.loss_history_.items():
        np.testing.assert_allclose(losses_of_epochs, second.loss_history_[name], rtol=0.1)


def test_groups_have_weights_of_their_own(data):
    given = sides(data)
    holder, half = given["graph"], given["graph"].n_anchors // 2
    groups = {"first": (0, half), "second": (half, holder.n_anchors)}
    two = {**given, "graph": AnchorGraph(holder.to_csr(), texts=holder.texts, groups=groups)}
    model = fit(data, edges=two, schedule="fade")
    names = [f"{group} ({side})" for group in groups for side in ("samples", "labels")]
    assert sorted(model.graph_weights_) == sorted(["epoch", *names])
    steps = len(model.graph_weights_["epoch"])
    assert all(len(weights) == steps for weights in model.graph_weights_.values())
    assert model.edge_survival_["epoch"].size == 0
    assert all(len(values) == 3 for values in model.loss_history_.values())
    weights = {"first": (0.5, 0.25), "second": (0.0, 1.0)}
    fixed = fit(data, edges=two, weights=weights, schedule="fade")
    constant = fit(data, edges=two, weights=weights, schedule="constant")
    assert {k: v[0] for k, v in constant.graph_weights_.items() if k != "epoch"} == {
        "first (samples)": 0.5,
        "first (labels)": 0.25,
        "second (samples)": 0.0,
        "second (labels)": 1.0,
    }
    assert fixed.graph_weights_["second (labels)"][-1] < 0.1
    assert np.isnan(constant.loss_history_["second (samples)"]).all()


def test_splitting_a_group_keeps_the_possible_positives(data):
    given = sides(data)
    holder, half = given["graph"], given["graph"].n_anchors // 2
    groups = {"first": (0, half), "second": (half, holder.n_anchors)}
    two = AnchorGraph(holder.to_csr(), texts=holder.texts, groups=groups)
    seen = [terms_of(data, {**given, "graph": graph})[0] for graph in (holder, two)]
    for side in ("samples", "labels"):
        whole, parts = (
            sum(term.walked for term in terms if term.side == side).toarray() for terms in seen
        )
        np.testing.assert_array_equal(whole, parts)
    assert [len(terms) for terms in seen] == [2, 4]


def test_a_walk_adds_edges(data):
    given = sides(data)
    raw, walked = (
        terms_of(data, given, walk=walk)[0] for walk in (False, RandomWalk(length=50, top_k=3))
    )
    for before, after in zip(raw, walked, strict=True):
        assert (after.walked - before.walked).min() >= 0
        added = np.diff(after.walked.indptr) - np.diff(before.walked.indptr)
        assert 0 < added.max() <= 3
    np.testing.assert_array_equal(raw[0].walked.toarray() > 0, raw[0].edges.toarray() > 0)


def test_the_seed_fixes_everything(data):
    walk = RandomWalk(length=20)
    for schedule in ("first", "fade"):
        models = [fit(data, walk=walk, random_state=s, schedule=schedule) for s in (0, 0, 1)]
        assert losses(models[0]) != losses(models[2])
        assert_same_model(models[0], models[1], data.test_texts)
    assert losses(models[0]) == losses(models[1])


# ---- state


def figures_of(model):
    return [getattr(model, name) for name in ("graph_weights_", "edge_survival_", "loss_history_")]


@pytest.mark.parametrize(
    "terms",
    [
        FIRST,
        GraphTerms(weights={"topic": (0.5, 1)}, loss="triplet", walk=RandomWalk(), schedule="fade"),
    ],
    ids=SCHEDULES,
)
def test_save_and_load(data, tmp_path, terms):
    model = fit(data, terms=terms)
    model.save(tmp_path / "model")
    loaded = skxc.load(tmp_path / "model")
    assert_same_model(model, loaded, data.test_texts)
    assert repr(loaded.terms) == repr(model.terms)
    for saved, kept in zip(figures_of(loaded), figures_of(model), strict=True):
        assert list(saved) == list(kept)
        for key in kept:
            np.testing.assert_array_equal(saved[key], kept[key])


def test_figures_are_those_of_a_fitted_model():
    for name in ("graph_weights_", "edge_survival_", "loss_history_"):
        with pytest.raises(AttributeError, match="not fitted yet"):
            getattr(GraphRegularizedXC(), name)


class KilledError(RuntimeError):
    pass


def dies_in_epoch(epoch, stage="encoder"):
    """Return a class whose training dies before an epoch of a stage."""

    class Dies(GraphRegularizedXC):
        def _task(self, fit):
            run = fit.run

            def dying_run(task, n_epochs, model):
                refresh = task.refresh

                def dying(number, rng):
                    if number == epoch and task.name == stage:
                        raise KilledError
                    refresh(number, rng)

                task.refresh = dying
                return run(task, n_epochs, model)

            object.__setattr__(fit, "run", dying_run)
            return super()._task(fit)

    return Dies


@pytest.mark.parametrize(
    ("stage", "killed", "done"),
    [("graph", 1, 0), ("encoder", 2, 0)],
)
def test_checkpoints_resume_bit_for_bit(data, tmp_path, stage, killed, done):
    options = {"training": Training(checkpoint_dir=tmp_path)}
    whole = fit(data)
    with pytest.raises(KilledError):
        fit(data, dies_in_epoch(killed, stage), **options)
    model = fit(data, dies_in_epoch(done, stage), **options)  # that epoch is not trained again
    assert_same_model(whole, model, data.test_texts)
    for name, values in whole.loss_history_.items():
        np.testing.assert_array_equal(values, model.loss_history_[name])


def test_checkpoints_of_terms_beside_the_task(data, tmp_path):
    terms = clone(BESIDE).set_params(weights=Bandit(window=2))
    whole = fit(data, terms=terms)
    options = {"terms": terms, "training": Training(checkpoint_dir=tmp_path)}
    with pytest.raises(KilledError):
        fit(data, dies_in_epoch(2), **options)
    model = fit(data, dies_in_epoch(0), **options)
    assert_same_model(whole, model, data.test_texts)
    for name, values in whole.graph_weights_.items():
        np.testing.assert_array_equal(values, model.graph_weights_[name])
    np.testing.assert_array_equal(whole.edge_survival_["epoch"], model.edge_survival_["epoch"])


def test_an_interrupted_fit_changes_nothing(data):
    model = dies_in_epoch(1)(**{**QUICK, "n_epochs": 1})
    model.fit(data.train_texts, data.train_labels, label_features=data.label_texts, **sides(data))
    before = pickle.dumps(vars(model))
    answers = model.predict_proba(data.test_texts).toarray()
    model.set_params(n_epochs=3)
    with pytest.raises(KilledError):
        model.fit(data.train_texts, data.train_labels[:, :7], label_features=data.label_texts[:7])
    assert pickle.dumps(vars(model.set_params(n_epochs=1))) == before
    np.testing.assert_array_equal(model.predict_proba(data.test_texts).toarray(), answers)
    fresh = dies_in_epoch(0)(**QUICK)
    with pytest.raises(KilledError):
        fresh.fit(data.train_texts, data.train_labels, label_features=data.label_texts)
    with pytest.raises(NotFittedError):
        fresh.predict_topk(data.test_texts)


def test_a_vectoriser_that_fails_changes_nothing(data):
    model = fit(data, vectorizer=TfidfVectorizer(), n_epochs=2)
    before = pickle.dumps(model.__getstate__())
    with pytest.raises(ValueError, match="empty vocabulary"):
        model.fit(["a", "b"] * 10, data.train_labels[:20])
    assert pickle.dumps(model.__getstate__()) == before


def test_probabilities_follow_the_votes(data):
    model, silent = fit(data, votes=None), fit(data, votes=False)
    assert_same_model(model.set_params(votes=False), silent, data.test_texts)


def test_new_labels_are_found_by_their_text(data):
    model = fit(data, n_epochs=8)
    new = "word0 word1"
    grown = copy.deepcopy(model).add_labels([new])
    assert grown.n_labels_ == 41
    assert grown.predict_topk([new], k=1)[0].tolist() == [[40]]
    assert grown.graph_weights_.keys() == model.graph_weights_.keys()


def test_the_classifier_stage_leaves_the_encoder_alone(data):
    with_stage, without = fit(data, label_vectors=ClassifierStage(n_epochs=2)), fit(data)
    np.testing.assert_array_equal(with_stage.label_embeddings_, without.label_embeddings_)
    assert with_stage.classifier_weights_ is not None
    assert not np.array_equal(with_stage.classifier_weights_, without.label_embeddings_)


def test_small_data_calibrate_and_give_rows_back(data):
    model = GraphRegularizedXC(**{**QUICK, "calibration": "auto"}).fit(
        data.train_texts, data.train_labels, label_features=data.label_texts, **sides(data)
    )
    assert model.model_.figures.weights["epoch"].size == 9, "150 rows make 3 steps an epoch"
    assert model.loss_history_["graph"].size == 2
    probability = dense(model.predict_proba(data.test_texts))
    assert ((probability >= 0) & (probability < 1)).all()
