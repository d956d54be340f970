from itertools import combinations

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.datasets import bayes_scores, make_planted_xc


def frequency(data):
    return np.bincount(data.train_labels.indices, minlength=data.n_labels)


def text_topics(data, side):
    """Topics whose words show in the texts, as one set per row; sample words are `word<topic>`."""
    texts = getattr(data, f"{side}_texts")
    return [{int(word.removeprefix("word")) for word in text.split()} for text in texts]


def expected_precision(relevance, scores, k):
    """Expected precision at k of ranking dense scores, ties to the lower label."""
    top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(relevance, top, axis=1).mean()


# ---------------------------------------------------------------- the truth
@pytest.mark.parametrize("n_noise_words", [0, 1, 2])
def test_relevance_is_the_frequency_given_the_text(n_noise_words):
    """In a small world every text is drawn often enough to count its labels."""
    data = make_planted_xc(
        n_samples=60_000,
        n_labels=7,
        n_test=60_000,
        n_topics=5,
        n_noise_words=n_noise_words,
        tail=1.0,
        unseen_fraction=0.3,
        related_probability=0.3,
        random_state=3,
    )
    for side in ("train", "test"):
        y = getattr(data, f"{side}_labels").toarray()
        truth = getattr(data, f"{side}_relevance").toarray()
        keys = np.array([hash(frozenset(topics)) for topics in text_topics(data, side)])
        for key in np.unique(keys):
            rows = keys == key
            assert (truth[rows] == truth[rows][0]).all()  # a function of the text
            p = truth[rows][0]
            error = np.abs(y[rows].mean(axis=0) - p)
            assert (error <= 5 * np.sqrt(p * (1 - p) / rows.sum()) + 1e-9).all()


def test_relevance_against_loops():
    data = make_planted_xc(
        n_samples=40,
        n_labels=30,
        n_test=50,
        n_topics=9,
        n_noise_words=2,
        tail=0.0,
        unseen_fraction=0.2,
        related_probability=0.25,
        random_state=0,
    )
    related = data.true_graph.toarray()
    unseen = sorted(set(range(30)) - {s for s in range(30) if frequency(data)[s]})
    # tail 0: a seen source has prior 0.8 / 24, an unseen one 0.2 / 6; here they are equal
    for side in ("train", "test"):
        truth = getattr(data, f"{side}_relevance").toarray()
        is_seen = np.ones(30, bool)
        if side == "train":
            never = truth.max(axis=0) == 0
            assert never.sum() >= 6 and set(np.flatnonzero(never)) <= set(unseen)
            is_seen = ~never
        for i, topics in enumerate(text_topics(data, side)):
            pairs = set(combinations(sorted(topics), 2))
            sources = [s for s in range(30) if tuple(data.label_topics[s]) in pairs and is_seen[s]]
            expected = np.zeros(30)
            for s in sources:
                for label in range(30):
                    given = 1.0 if label == s else 0.25 * related[s, label]
                    expected[label] += given * is_seen[label] / len(sources)
            np.testing.assert_allclose(truth[i], expected, atol=1e-12)


def test_without_noise_words_the_label_of_the_same_topics_is_certain():
    data = make_planted_xc(n_noise_words=0, related_probability=0.4, random_state=0)
    for topics, source in zip(text_topics(data, "test"), data.test_sources, strict=True):
        assert topics == set(data.label_topics[source])
    overlap = data.test_features @ _topic_matrix(data).T
    nearest = overlap.toarray().argmax(axis=1)
    np.testing.assert_array_equal(nearest, data.test_sources)
    np.testing.assert_array_equal(data.test_relevance.toarray().argmax(axis=1), nearest)
    scores = bayes_scores(data, [1])
    assert scores["P@1"] == 1.0
    assert np.unique(data.test_relevance.data).tolist() == [0.4, 1.0]


def _topic_matrix(data):
    """Labels x vocabulary: the words by which samples show the topics of the label."""
    rows = np.repeat(np.arange(data.n_labels), 2)
    shape = (data.n_labels, len(data.feature_names))
    return sp.csr_array(
        (np.ones(2 * data.n_labels), (rows, data.label_topics.ravel())), shape=shape
    )


def test_the_label_with_both_topics_and_most_popular_is_best():
    data = make_planted_xc(related_probability=0.0, tail=1.0, random_state=1)
    overlap = (data.test_features @ _topic_matrix(data).T).toarray()
    truth = data.test_relevance.toarray()
    assert ((truth > 0) == (overlap == 2)).all()
    np.testing.assert_allclose(truth.sum(axis=1), 1)


def test_no_corrupted_scorer_beats_the_truth():
    data = make_planted_xc(n_test=4000, n_labels=300, random_state=0)
    truth = data.test_relevance.toarray()
    rng = np.random.default_rng(0)
    corrupted = {
        "noisy": truth + rng.normal(0, 0.3, truth.shape),
        "popular": np.broadcast_to(frequency(data), truth.shape),
        "source unknown": truth[:, rng.permutation(300)],
        "no prior": (truth > 0).astype(float),
        "text overlap": (data.test_features @ _topic_matrix(data).T).toarray(),
    }
    for k in (1, 3, 5):
        best = expected_precision(truth, truth, k)
        assert best == pytest.approx(np.sort(truth, axis=1)[:, -k:].mean())
        for name, scores in corrupted.items():
            assert expected_precision(truth, scores, k) < best, name
            # also on the labels as drawn
            y = data.test_labels.toarray()
            assert expected_precision(y, scores, k) < expected_precision(y, truth, k), name


def test_bayes_scores_against_loops_and_the_expectation():
    data = make_planted_xc(n_test=3000, n_noise_words=2, random_state=5)
    truth, y = data.test_relevance.toarray(), data.test_labels.toarray()
    scores = bayes_scores(data, k=(1, 5, 10))
    assert list(scores) == ["P@1", "P@5", "P@10", "R@1", "R@5", "R@10"]
    for k in (1, 5, 10):
        precision, recall = [], []
        for i in range(data.n_test):
            ranked = [j for j in np.argsort(-truth[i], kind="stable") if truth[i, j] > 0][:k]
            hits = sum(y[i, j] for j in ranked)
            precision.append(hits / k)
            recall.append(hits / y[i].sum())
        assert scores[f"P@{k}"] == pytest.approx(np.mean(precision))
        assert scores[f"R@{k}"] == pytest.approx(np.mean(recall))
        error = np.std(precision) / np.sqrt(data.n_test)
        assert abs(scores[f"P@{k}"] - expected_precision(truth, truth, k)) < 4 * error


def test_every_sample_has_its_source_among_its_labels():
    data = make_planted_xc(random_state=2)
    rows = np.arange(data.n_train)
    assert (data.train_labels[rows, data.train_sources] == 1).all()
    assert (data.test_labels[np.arange(data.n_test), data.test_sources] == 1).all()
    others = data.test_labels.toarray()
    others[np.arange(data.n_test), data.test_sources] = 0
    related = data.true_graph[data.test_sources].toarray()
    assert (related[others == 1] == 1).all()
    assert others.sum() / related.sum() == pytest.approx(0.5, abs=0.05)


# ---------------------------------------------------------------- the knobs
def test_unseen_labels_have_test_samples_only():
    data = make_planted_xc(n_samples=20_000, tail=0.0, unseen_fraction=0.25, random_state=0)
    unseen = frequency(data) == 0
    assert unseen.sum() == 100  # every other label has samples, with so many of them
    assert data.train_relevance.toarray()[:, unseen].max() == 0
    assert unseen[data.test_sources].mean() == 0.25
    assert np.bincount(data.test_labels.indices, minlength=400)[unseen].sum() > 125
    everything = make_planted_xc(n_samples=20_000, tail=0.0, unseen_fraction=0.0, random_state=0)
    assert (frequency(everything) > 0).all()


def test_the_tail_exponent_makes_the_tail():
    sizes = {}
    for tail in (0.0, 0.5, 1.0, 1.5):
        data = make_planted_xc(n_samples=5000, tail=tail, related_probability=0, random_state=0)
        counts = np.sort(frequency(data))[::-1]
        sizes[tail] = (counts[0], np.mean(counts < 5))
    assert [s[0] for s in sizes.values()] == sorted(s[0] for s in sizes.values())
    assert [s[1] for s in sizes.values()] == sorted(s[1] for s in sizes.values())
    assert sizes[0.0][0] < 50 < 1000 < sizes[1.5][0]
    # Zipf, tail 1, 320 seen labels: the first has a share of 1 / (ln 320 + 0.577)
    assert sizes[1.0][0] / 5000 == pytest.approx(1 / (np.log(320) + 0.577), rel=0.5)


def agreement(data):
    """Share of the links and edges between ends that have a topic in common."""
    nodes = data.anchors["topic"]
    topic_of_node = np.arange(nodes.sample_anchors.shape[1])
    shares = []
    for links, topics in (
        (nodes.label_anchors, data.label_topics),
        (nodes.sample_anchors, data.label_topics[data.train_sources]),
    ):
        rows = np.repeat(np.arange(links.shape[0]), np.diff(links.indptr))
        shares.append((topics[rows] == topic_of_node[links.indices][:, None]).any(axis=1).mean())
    graph = data.graphs["related"].tocoo()
    a, b = data.label_topics[graph.row], data.label_topics[graph.col]
    shares.append((a[:, :, None] == b[:, None, :]).any(axis=(1, 2)).mean())
    return np.array(shares)


def test_graph_noise_lowers_the_agreement_and_touches_nothing_else():
    clean = make_planted_xc(random_state=0)
    np.testing.assert_array_equal(agreement(clean), 1)
    assert (clean.graphs["related"] != clean.true_graph).nnz == 0
    previous = agreement(clean)
    for noise in (0.3, 0.6, 1.0):
        data = make_planted_xc(graph_noise=noise, random_state=0)
        now = agreement(data)
        assert (now < previous - 0.1).all()
        np.testing.assert_allclose(now, 1 - noise, atol=0.12)
        previous = now
        for name in ("train_texts", "test_texts", "label_texts"):
            assert getattr(data, name) == getattr(clean, name)
        for name in ("train_labels", "test_labels", "test_relevance", "true_graph"):
            assert (getattr(data, name) != getattr(clean, name)).nnz == 0
        graph = data.graphs["related"]
        assert (graph != graph.T).nnz == 0 and graph.diagonal().sum() == 0
        assert (graph.data == 1).all()


@pytest.mark.parametrize("gap", [0.0, 0.5, 1.0])
def test_vocabulary_gap(gap):
    data = make_planted_xc(vocabulary_gap=gap, random_state=0)
    base = make_planted_xc(random_state=0)
    assert data.train_texts == base.train_texts and data.test_texts == base.test_texts
    label_words = {word for text in data.label_texts for word in text.split()}
    own = {word for word in label_words if word.startswith("name")}
    assert len(own) / len(label_words) == pytest.approx(gap, abs=0.02)
    cosine = (data.test_features @ data.label_features.T).toarray()
    if gap == 1:
        assert cosine.max() == 0
    if gap == 0:
        truth = data.test_relevance.toarray()
        assert expected_precision(truth, cosine, 1) > 0.5


def association(left, right, rows=None):
    """Counts of words of two sides seen together, scaled by how often each was seen."""
    counts = np.asarray((left.T @ (right if rows is None else rows @ right)).todense())
    scale = np.maximum(counts.sum(1, keepdims=True), 1) * np.maximum(counts.sum(0), 1)
    return counts / np.sqrt(scale)


def test_metadata_tells_what_the_label_texts_do_not():
    """Words of unseen labels are linked to words of samples through shared nodes only."""
    results = {}
    for noise in (0.0, 0.6):
        data = make_planted_xc(n_synonyms=4, unseen_fraction=0.5, graph_noise=noise, random_state=1)
        nodes = data.anchors["topic"]
        by_labels = association(data.train_features, data.label_features, data.train_labels)
        by_nodes = association(data.train_features, nodes.sample_anchors)
        by_nodes = by_nodes @ association(nodes.label_anchors, data.label_features)
        unseen = frequency(data)[data.test_sources] == 0
        y = data.test_labels.toarray()[unseen]
        queries = data.test_features.toarray()[unseen]
        for name, words in (("labels", by_labels), ("nodes", by_nodes)):
            scores = queries @ words @ data.label_features.toarray().T
            results[name, noise] = expected_precision(y, scores, 1)
    assert results["labels", 0.0] < 0.2
    assert results["nodes", 0.0] > 0.6
    assert results["nodes", 0.6] < results["nodes", 0.0] - 0.3


@pytest.mark.parametrize("n_anchors", [10, 57, 171])
def test_number_of_anchors(n_anchors):
    data = make_planted_xc(n_anchors=n_anchors, n_topics=57, random_state=0)
    nodes = data.anchors["topic"]
    assert nodes.label_anchors.shape == (400, n_anchors)
    assert len(set(nodes.texts)) == n_anchors
    assert np.unique(nodes.sample_anchors.indices).size > 0.9 * n_anchors
    allowed = data.label_topics % min(57, n_anchors)
    for label in range(400):
        found = nodes.label_anchors.indices[slice(*nodes.label_anchors.indptr[label : label + 2])]
        assert set(found % min(57, n_anchors)) == set(allowed[label])
        assert all(nodes.texts[m].split()[0] == f"node{m % min(57, n_anchors)}" for m in found)


def test_number_of_synonyms():
    data = make_planted_xc(n_synonyms=3, random_state=0)
    words = {word for text in data.label_texts for word in text.split()}
    assert len(words) > 2.5 * 57
    for text, topics in zip(data.label_texts, data.label_topics, strict=True):
        assert [int(w[4:].split("of")[0]) for w in text.split()] == topics.tolist()


# ---------------------------------------------------------------- form
def test_texts_and_features_agree():
    data = make_planted_xc(n_noise_words=3, random_state=0)
    column = {word: j for j, word in enumerate(data.feature_names)}
    for side in ("train", "test", "label"):
        features = getattr(data, f"{side}_features")
        assert features.dtype == np.float32 and features.has_canonical_format
        for i, text in enumerate(getattr(data, f"{side}_texts")):
            words = text.split()
            assert len(set(words)) == len(words) == (2 if side == "label" else 5)
            assert (
                sorted(column[w] for w in words)
                == features.indices[features.indptr[i] : features.indptr[i + 1]].tolist()
            )


def test_words_of_a_text_are_in_random_order():
    data = make_planted_xc(random_state=0)
    firsts = [int(text.split()[0].removeprefix("word")) for text in data.train_texts]
    own = data.label_topics[data.train_sources]
    is_own = (np.array(firsts)[:, None] == own).mean(axis=0)
    np.testing.assert_allclose(is_own, 1 / 3, atol=0.05)


def test_labels_are_distinct_pairs_and_related_ones_share_a_topic():
    data = make_planted_xc(n_labels=500, random_state=0)
    pairs = set(map(tuple, data.label_topics.tolist()))
    assert len(pairs) == 500 and all(a < b for a, b in pairs)
    graph = data.true_graph
    assert (graph != graph.T).nnz == 0 and graph.diagonal().sum() == 0
    degree = np.diff(graph.indptr)
    assert degree.max() <= 4 and degree.mean() > 3


def test_all_pairs_can_be_labels():
    data = make_planted_xc(n_labels=45, n_topics=10, n_noise_words=8, random_state=0)
    assert set(map(tuple, data.label_topics.tolist())) == set(combinations(range(10), 2))
    assert all(topics == set(range(10)) for topics in text_topics(data, "train"))


def test_one_label():
    data = make_planted_xc(n_samples=3, n_labels=1, n_test=2, unseen_fraction=0, random_state=0)
    assert data.train_labels.toarray().tolist() == [[1]] * 3
    assert bayes_scores(data, [1]) == {"P@1": 1.0, "R@1": 1.0}


def test_seeds():
    def texts(seed):
        return make_planted_xc(random_state=seed).train_texts

    assert texts(0) == texts(0) != texts(1)
    assert texts(np.random.RandomState(4)) == texts(np.random.RandomState(4))


def test_holders():
    data = make_planted_xc(random_state=0)
    graph, samples = data.anchor_graph()
    assert graph.groups == {"topic": (0, 57)} and samples.shape == (2000, 57)
    assert data.label_graph("related").n_labels == 400


def test_many_labels():
    data = make_planted_xc(n_samples=1000, n_labels=100_000, n_test=100, random_state=0)
    assert data.n_labels == len(data.label_texts) == 100_000
    assert bayes_scores(data)["P@1"] > 0.5


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"n_samples": 0}, "`n_samples` must be at least 1, but is 0"),
        ({"n_labels": 0}, "`n_labels` must be at least 1"),
        ({"n_test": 0}, "`n_test` must be at least 1"),
        ({"n_noise_words": -1}, "`n_noise_words` must be at least 0"),
        ({"n_synonyms": 0}, "`n_synonyms` must be at least 1"),
        ({"n_anchors": 0}, "`n_anchors` must be at least 1"),
        ({"n_topics": 40, "n_noise_words": 39}, "`n_topics` must be at least 41, but is 40"),
        ({"n_topics": 20}, "20 topics make 190 pairs, but 400 labels need one each. Raise"),
        ({"vocabulary_gap": 1.1}, "`vocabulary_gap` must be between 0 and 1, but is 1.1"),
        ({"tail": -0.1}, "`tail` must be at least 0"),
        ({"unseen_fraction": -0.1}, "`unseen_fraction` must be between 0 and 1"),
        ({"unseen_fraction": 1.0}, "`unseen_fraction` leaves none of the 400 labels"),
        ({"related_probability": 2}, "`related_probability` must be between 0 and 1"),
        ({"graph_noise": float("nan")}, "`graph_noise` must be between 0 and 1, but is nan"),
    ],
)
def test_errors(parameters, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_planted_xc(**parameters)
