"""Estimator expressions: what is understood, and that nothing else is evaluated."""

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion

from skxc import KNeighborsXC, LabelPool, UnifiedXC, presets
from skxc.benchmark import build_estimator


@pytest.mark.parametrize("text", ["KNeighborsXC", "KNeighborsXC()", "  KNeighborsXC( )\n"])
def test_a_name_alone_means_default_parameters(text):
    built = build_estimator(text)
    assert type(built) is KNeighborsXC
    assert built.get_params() == KNeighborsXC().get_params()


def test_literal_and_nested_arguments():
    built = build_estimator(
        "KNeighborsXC(n_neighbors=7, power=-0.5, vectorizer=TfidfVectorizer(ngram_range=(1, 2), "
        "stop_words=['a', 'of'], lowercase=False))"
    )
    assert (built.n_neighbors, built.power) == (7, -0.5)
    assert type(built.vectorizer) is TfidfVectorizer
    assert built.vectorizer.ngram_range == (1, 2)
    assert built.vectorizer.stop_words == ["a", "of"]
    assert built.vectorizer.lowercase is False


def test_positional_lists_tuples_and_dicts():
    built = build_estimator(
        "KNeighborsXC(vectorizer=FeatureUnion([('w', TfidfVectorizer()), "
        "('c', TfidfVectorizer(analyzer='char'))], transformer_weights={'w': 2.0}))"
    )
    assert type(built.vectorizer) is FeatureUnion
    assert [name for name, _ in built.vectorizer.transformer_list] == ["w", "c"]
    assert built.vectorizer.transformer_weights == {"w": 2.0}


def test_parts_are_calls():
    built = build_estimator("UnifiedXC(pool=LabelPool(size=2048), n_epochs=3)")
    assert type(built) is UnifiedXC
    assert type(built.pool) is LabelPool
    assert (built.pool.size, built.n_epochs) == (2048, 3)


@pytest.mark.parametrize("name", presets.__all__)
def test_a_preset_is_called_by_its_name(name):
    assert repr(build_estimator(f"{name}(scale='paper')")) == repr(
        getattr(presets, name)(scale="paper")
    )
    assert repr(build_estimator(name)) == repr(getattr(presets, name)())


def test_a_preset_takes_nested_parameters():
    built = build_estimator("ngame(n_epochs=3, encoder__dim=32, training=Training(patience=2))")
    assert (built.n_epochs, built.encoder.dim, built.training.patience) == (3, 32, 2)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch evaluated')",
        "KNeighborsXC(n_neighbors=__import__('os').getpid())",
        "KNeighborsXC(n_neighbors=open('evaluated', 'w'))",
        "KNeighborsXC(n_neighbors=1 + 1)",
        "KNeighborsXC(n_neighbors=[n for n in (1,)])",
        "KNeighborsXC(vectorizer=lambda x: x)",
        "KNeighborsXC(**{'n_neighbors': 3})",
        "KNeighborsXC(*[3])",
        "KNeighborsXC(vectorizer={**{}})",
        "skxc.KNeighborsXC()",
        "KNeighborsXC().fit",
        "load('somewhere')",
        "Pipeline()",
        "make_loss('softmax')",
        "presets.ngame()",
    ],
)
def test_nothing_is_evaluated(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError):
        build_estimator(text)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("KNeighborsXC(", "not an estimator expression"),
        ("KNeigborsXC()", "Did you mean KNeighborsXC?"),
        ("Nothing()", "'Nothing' is no class or preset"),
        ("ngane()", "Did you mean ngame?"),
        ("ngame(n_epoch=3)", "cannot be built: .*n_epoch"),
        ("KNeighborsXC(neighbours=3)", "cannot be built: .*neighbours"),
        ("TfidfVectorizer()", "TfidfVectorizer, which is not a classifier"),
        ("3", "int, which is not a classifier"),
    ],
)
def test_errors_say_what_to_write(text, message):
    with pytest.raises(ValueError, match=message):
        build_estimator(text)
