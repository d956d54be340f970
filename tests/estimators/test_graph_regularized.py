"""GraphRegularizedXC: the base without a graph, the graph's inputs, and what a graph buys."""

import copy
import pickle
import warnings

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import config_context
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV, KFold

import skxc
from skxc import AnchorGraph, DualEncoderXC, GraphRegularizedXC, LabelGraph, LabelTexts
from skxc.datasets import make_planted_xc
from skxc.encoders import BagEncoder
from skxc.exceptions import GraphWarning
from skxc.model_selection import cross_val_predict
from tests.toys import assert_same_model, dense

torch = pytest.importorskip("torch")

QUICK = {
    "n_epochs": 3,
    "random_state": 0,
    "batch_size": 64,
    "encoder": BagEncoder(dim=16),
    "classifier_stage": False,
    "neighbor_weight": 0.0,
    "prune_warmup": 1,
    "prune_interval": 1,
}
BASE = {name: QUICK[name] for name in QUICK if not name.startswith("prune")}


@pytest.fixture(scope="module")
def data():
    return make_planted_xc(150, 40, n_test=60, random_state=0)


def sides(data):
    graph, sample_graph = data.anchor_graph("topic")
    return {"graph": graph, "sample_graph": sample_graph}


def fit(data, model=GraphRegularizedXC, X=None, label_features=None, edges=None, **params):
    """Return a quickly trained model, without the second training of small data."""
    model = model(**{**(QUICK if model is GraphRegularizedXC else BASE), **params})
    model._gives_rows_back = lambda n_samples: False
    model.fit(
        data.train_texts if X is None else X,
        data.train_labels,
        label_features=data.label_texts if label_features is None else label_features,
        **(sides(data) if edges is None else edges),
    )
    del model._gives_rows_back
    return model


def shuffle(matrix, seed=0):
    """Return the matrix with its right ends permuted among the edges."""
    columns = np.random.default_rng(seed).permutation(matrix.indices)
    return sp.csr_array((matrix.data, columns, matrix.indptr), shape=matrix.shape)


def losses(model):
    return [record["loss"] for record in model.history_]


# ---- the base


@pytest.mark.parametrize("stage", [False, True, "joint"])
@pytest.mark.parametrize("case", ["no graph", "no edge", "weights 0"])
def test_without_a_graph_the_model_is_the_dual_encoder(data, case, stage):
    given = sides(data)
    empty = {
        "graph": AnchorGraph(0 * given["graph"].to_csr(), texts=given["graph"].texts),
        "sample_graph": 0 * given["sample_graph"],
    }
    edges = {"no graph": {}, "no edge": empty, "weights 0": given}[case]
    weights = 0.0 if case == "weights 0" else "bandit"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GraphWarning)
        model = fit(data, edges=edges, graph_weights=weights, classifier_stage=stage)
    base = fit(data, DualEncoderXC, edges={}, classifier_stage=stage)
    assert losses(model) == losses(base)
    assert model.edge_survival_["epoch"].size == (2 if case == "weights 0" else 0)
    assert_same_model(model, base, data.test_texts)


def test_the_graph_is_neither_kept_nor_needed(data):
    given = sides(data)
    model = fit(data, edges=given)
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


def test_a_graph_changes_the_model(data):
    model, base = fit(data), fit(data, edges={})
    assert losses(model) != losses(base)
    assert not np.array_equal(model.label_embeddings_, base.label_embeddings_)


# ---- inputs


def test_graph_and_sample_graph_need_each_other_or_warn(data):
    given = sides(data)
    cases = {
        "edges of labels only": {"graph": given["graph"]},
        "has no edge": {"graph": AnchorGraph(None, texts=given["graph"].texts)},
    }
    for message, edges in cases.items():
        with pytest.warns(GraphWarning, match=message):
            fit(data, edges=edges)
    with warnings.catch_warnings():
        warnings.simplefilter("error", GraphWarning)
        fit(data)
        fit(data, edges={})
        fit(data, edges={"graph": given["graph"]}, regularize_points=False)
    with pytest.warns(GraphWarning, match="never pruned"):
        fit(data, prune_warmup=3)


def test_labels_get_the_anchors_of_their_rows(data):
    given = sides(data)
    texts = given["graph"].texts
    samples_only = {**given, "graph": AnchorGraph(None, texts=texts)}
    derived = fit(data, edges=samples_only, derive_label_edges=True)
    assert sorted(derived.graph_weights_) == ["anchors (labels)", "anchors (points)", "epoch"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", GraphWarning)
        plain = fit(data, edges=samples_only)
    assert sorted(plain.graph_weights_) == ["anchors (points)", "epoch"]
    assert losses(plain) == losses(fit(data, regularize_labels=False))
    small = given["sample_graph"] * 0
    small.eliminate_zeros()
    with pytest.warns(GraphWarning):
        fit(data, edges={"graph": AnchorGraph(None, texts=texts), "sample_graph": small})
    empty = AnchorGraph(0 * given["graph"].to_csr(), texts=texts)
    with pytest.warns(GraphWarning, match="edges of points only"):
        fit(data, edges={**given, "graph": empty})


def test_derived_anchors_are_the_most_frequent_of_the_training_rows(data, monkeypatch):
    seen = {}
    original = GraphRegularizedXC._edges_of_sides

    def record(self, training):
        seen.update(found=original(self, training), data=training)
        return seen["found"]

    monkeypatch.setattr(GraphRegularizedXC, "_edges_of_sides", record)
    given = sides(data)
    n_anchors = given["graph"].n_anchors
    # Two graphs: a label gets some of each, however frequent those of the other are.
    monkeypatch.setattr("skxc.estimators._graph_regularized.DERIVED_ANCHORS", 2)
    groups = {"one": (0, n_anchors // 2), "other": (n_anchors // 2, n_anchors)}
    graph = AnchorGraph(None, given["graph"].texts, groups)
    fit(data, edges={**given, "graph": graph}, derive_label_edges=True)
    counts = (seen["data"].y.T @ seen["data"].sample_graph).toarray()
    labels = seen["found"]["labels"].toarray()
    for start, stop in groups.values():
        for row, kept in zip(counts[:, start:stop], labels[:, start:stop], strict=True):
            assert (kept > 0).sum() == min(2, (row > 0).sum())
            assert kept[kept > 0].min(initial=np.inf) >= np.where(kept > 0, 0, row).max()


@pytest.mark.parametrize("holder", [AnchorGraph, LabelGraph, lambda graph: graph])
def test_anchors_that_are_the_labels(data, holder):
    raw = sp.csr_array(data.true_graph)
    rows = sp.csr_array(data.train_labels @ raw)
    model = fit(data, edges={"graph": holder(raw), "sample_graph": rows})
    expected = fit(data, edges={"graph": LabelGraph(raw), "sample_graph": rows})
    assert losses(model) == losses(expected)
    assert sorted(model.graph_weights_) == ["epoch", "labels (labels)", "labels (points)"]
    assert losses(model) != losses(fit(data, edges={}))


def test_a_label_is_never_a_negative_of_itself_or_of_its_rows(data, monkeypatch):
    terms = []
    original = GraphRegularizedXC._terms
    monkeypatch.setattr(
        GraphRegularizedXC,
        "_terms",
        lambda self, run: terms.append((original(self, run), run.data)) or terms[-1][0],
    )
    loops = sp.csr_array(data.true_graph + sp.eye_array(40))
    fit(data, edges={"graph": loops, "sample_graph": data.train_labels @ data.true_graph})
    (points, labels), training = terms[0]
    np.testing.assert_array_equal(labels.hidden.toarray(), np.eye(40))
    assert not labels.walked.diagonal().any() or fit_walks_back(labels)
    np.testing.assert_array_equal(points.hidden.toarray() > 0, training.y.toarray() > 0)


def fit_walks_back(term):
    """Whether the diagonal came back by a walk, as an edge and not as a self loop."""
    return term.walked.diagonal().sum() < term.walked.shape[0]


def test_equal_texts_are_hidden(data, monkeypatch):
    terms = []
    original = GraphRegularizedXC._terms
    monkeypatch.setattr(
        GraphRegularizedXC,
        "_terms",
        lambda self, run: terms.append((original(self, run), run.data)) or terms[-1][0],
    )
    given = sides(data)
    texts = given["graph"].texts.copy()
    texts[0], texts[1] = data.train_texts[5], data.label_texts[7]
    fit(data, edges={**given, "graph": AnchorGraph(given["graph"].to_csr(), texts=texts)})
    (points, labels), training = terms[0]
    assert np.argwhere(labels.hidden.toarray()).tolist() == [[7, 1]]
    own = np.flatnonzero(data.train_texts[5] == training.X)
    expected = {(row, 0) for row in own}
    expected |= {(row, 1) for row in np.flatnonzero(training.y.toarray()[:, 7])}
    assert set(map(tuple, np.argwhere(points.hidden.toarray()))) == expected


def test_cooccurrence_builds_the_label_side_from_the_training_rows(data):
    model = fit(data, edges={"graph": "cooccurrence"}, regularize_points=False)
    assert sorted(model.graph_weights_) == ["epoch", "labels (labels)"]
    both = {"graph": "cooccurrence", "sample_graph": data.train_labels @ data.true_graph}
    assert "labels (points)" in fit(data, edges=both).graph_weights_
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
    names = {name: n for n, name in enumerate(data.feature_names)}
    anchors = np.zeros((given["graph"].n_anchors, width), dtype=np.float32)
    anchors[np.arange(len(anchors)), np.arange(len(anchors)) % width] = 1
    assert names
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


# ---- folds


class Recorder(GraphRegularizedXC):
    """Fails unless the edges of every training row name that row."""

    def _terms(self, run):
        points = run.data.sample_graph
        assert np.diff(points.indptr).tolist() == [1] * run.data.n_samples
        named = np.array([f"text{anchor}" for anchor in points.indices])
        words = np.array([text.split()[0] for text in run.data.X])
        np.testing.assert_array_equal(named, words)
        return super()._terms(run)


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
    model = Recorder(**{**QUICK, "walk": None})
    with config_context(enable_metadata_routing=routing):
        search = GridSearchCV(model, {"n_epochs": [2]}, cv=2, error_score="raise")
        search.fit(X, y, **fit_params)
        answers = cross_val_predict(model, X, y, cv=KFold(2), params=fit_params)
        assert answers.shape == (n, 40)
        shuffled = {**fit_params, "sample_graph": identity[::-1]}
        with pytest.raises(AssertionError):
            search.fit(X, y, **shuffled)


def test_holders_are_shared_by_clones_and_by_workers_that_see_memory_maps(data):
    given = sides(data)
    holder = given["graph"]
    assert copy.deepcopy(holder) is holder
    model = GraphRegularizedXC(**{**QUICK, "n_epochs": 2, "graph": holder})
    assert clone(model).graph is holder
    found = []
    for n_jobs in (1, 2):
        grid = {"graph_weights": [0.0, 1.0]}
        search = GridSearchCV(model, grid, cv=2, n_jobs=n_jobs, refit=False, error_score="raise")
        with joblib.parallel_config("loky", max_nbytes=1):  # every array is a read-only map
            search.fit(
                data.train_texts,
                data.train_labels,
                sample_graph=given["sample_graph"],
                label_features=LabelTexts(data.label_texts),
            )
        found.append(search.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(*found)


# ---- groups, permutations, seeds


def test_permuting_both_sides_together_is_the_same_graph(data, monkeypatch):
    """Only the numbers of the anchors change, and with them which ones a seed draws."""
    seen = []
    original = GraphRegularizedXC._terms
    monkeypatch.setattr(
        GraphRegularizedXC,
        "_terms",
        lambda self, run: seen.append(original(self, run)) or seen[-1],
    )
    given = sides(data)
    order = np.random.default_rng(0).permutation(given["graph"].n_anchors)
    holder = given["graph"]
    labels, texts = holder.to_csr()[:, order], holder.texts[order]
    edges = {
        "graph": AnchorGraph(labels, texts=texts, groups=holder.groups),
        "sample_graph": given["sample_graph"][:, order],
    }
    # The first steps move little, so other draws of the same edges give a similar loss.
    first, second = (
        fit(data, edges=one, walk_top_k=10**6, n_epochs=1, prune=False) for one in (given, edges)
    )
    for plain, permuted in zip(*seen, strict=True):
        np.testing.assert_array_equal(plain.walked.toarray()[:, order], permuted.walked.toarray())
    for name, losses_of_epochs in first.loss_history_.items():
        np.testing.assert_allclose(losses_of_epochs, second.loss_history_[name], rtol=0.1)


def test_groups_have_weights_of_their_own(data):
    given = sides(data)
    holder, half = given["graph"], given["graph"].n_anchors // 2
    groups = {"first": (0, half), "second": (half, holder.n_anchors)}
    two = {**given, "graph": AnchorGraph(holder.to_csr(), texts=holder.texts, groups=groups)}
    model = fit(data, edges=two, walk=None, prune=False)
    names = [f"{group} ({side})" for group in groups for side in ("points", "labels")]
    assert sorted(model.graph_weights_) == sorted(["epoch", *names])
    steps = len(model.graph_weights_["epoch"])
    assert all(len(weights) == steps for weights in model.graph_weights_.values())
    assert model.edge_survival_["epoch"].size == 0
    assert all(len(values) == 3 for values in model.loss_history_.values())
    fixed = fit(data, edges=two, graph_weights={"first": (0.5, 0.25), "second": (0.0, 1.0)})
    constant = fit(
        data,
        edges=two,
        graph_weights={"first": (0.5, 0.25), "second": (0.0, 1.0)},
        graph_schedule="constant",
    )
    assert {k: v[0] for k, v in constant.graph_weights_.items() if k != "epoch"} == {
        "first (points)": 0.5,
        "first (labels)": 0.25,
        "second (points)": 0.0,
        "second (labels)": 1.0,
    }
    assert fixed.graph_weights_["second (labels)"][-1] < 0.1
    assert np.isnan(constant.loss_history_["second (points)"]).all()


def test_unknown_groups_of_weights(data):
    with pytest.raises(ValueError, match="`graph_weights` must have a pair for every graph"):
        fit(data, graph_weights={"other": (1, 1)})


def test_splitting_a_group_keeps_the_possible_positives(data, monkeypatch):
    seen = []
    original = GraphRegularizedXC._terms
    monkeypatch.setattr(
        GraphRegularizedXC,
        "_terms",
        lambda self, run: seen.append(original(self, run)) or seen[-1],
    )
    given = sides(data)
    holder, half = given["graph"], given["graph"].n_anchors // 2
    groups = {"first": (0, half), "second": (half, holder.n_anchors)}
    fit(data, walk=None)
    two = AnchorGraph(holder.to_csr(), texts=holder.texts, groups=groups)
    fit(data, walk=None, edges={**given, "graph": two})
    for side in ("points", "labels"):
        whole, parts = (
            sum(term.walked for term in terms if term.side == side).toarray() for terms in seen
        )
        np.testing.assert_array_equal(whole, parts)
    assert [len(terms) for terms in seen] == [2, 4]


@pytest.mark.parametrize("walk", ["series", "simulate"])
def test_the_seed_fixes_everything(data, walk):
    models = [fit(data, walk=walk, walk_length=20, random_state=seed) for seed in (0, 0, 1)]
    assert losses(models[0]) == losses(models[1])
    assert_same_model(models[0], models[1], data.test_texts)
    assert losses(models[0]) != losses(models[2])


# ---- state


def test_save_and_load(data, tmp_path):
    model = fit(data)
    model.save(tmp_path / "model")
    loaded = skxc.load(tmp_path / "model")
    assert_same_model(model, loaded, data.test_texts)
    for name in ("graph_weights_", "edge_survival_", "loss_history_"):
        saved, kept = getattr(loaded, name), getattr(model, name)
        assert list(saved) == list(kept)
        for key in kept:
            np.testing.assert_array_equal(saved[key], kept[key])


def test_checkpoints_resume_bit_for_bit(data, tmp_path):
    whole = fit(data, bandit_window=2)

    class Killed(RuntimeError):
        pass

    class Dies(GraphRegularizedXC):
        def _train(self, run, task, n_epochs):
            original, epochs = task.refresh, []

            def refresh(epoch, rng):
                epochs.append(epoch)
                if epoch == 2 and not list(tmp_path.glob("survived")):
                    (tmp_path / "survived").touch()
                    raise Killed
                original(epoch, rng)

            task.refresh = refresh
            return super()._train(run, task, n_epochs)

    with pytest.raises(Killed):
        fit(data, Dies, bandit_window=2, checkpoint_dir=tmp_path, **PRUNING)
    model = fit(data, Dies, bandit_window=2, checkpoint_dir=tmp_path, **PRUNING)
    assert_same_model(whole, model, data.test_texts)
    for name, weights in whole.graph_weights_.items():
        np.testing.assert_array_equal(weights, model.graph_weights_[name])
    np.testing.assert_array_equal(whole.edge_survival_["epoch"], model.edge_survival_["epoch"])


PRUNING = {name: QUICK[name] for name in QUICK if name.startswith("prune")}


def test_new_labels_are_found_by_their_text(data):
    model = fit(data, n_epochs=8)
    new = "word0 word1"
    grown = copy.deepcopy(model).add_labels([new])
    assert grown.n_labels_ == 41
    assert grown.predict_topk([new], k=1)[0].tolist() == [[40]]


def test_the_classifier_stage_leaves_the_encoder_alone(data):
    with_stage, without = fit(data, classifier_stage=True), fit(data)
    np.testing.assert_array_equal(with_stage.label_embeddings_, without.label_embeddings_)
    assert with_stage.classifier_weights_ is not None
    assert not np.array_equal(with_stage.classifier_weights_, without.label_embeddings_)


def test_small_data_calibrate_and_give_rows_back(data):
    model = GraphRegularizedXC(**QUICK).fit(
        data.train_texts, data.train_labels, label_features=data.label_texts, **sides(data)
    )
    probability = dense(model.predict_proba(data.test_texts))
    assert ((probability >= 0) & (probability < 1)).all()
