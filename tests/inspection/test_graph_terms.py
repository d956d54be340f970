"""The plots of graph weights and edge survival show the numbers of a fitted model."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from skxc import GraphRegularizedXC
from skxc.datasets import make_planted_xc
from skxc.graphs import Pruning
from skxc.inspection import plot_edge_survival, plot_graph_weights

pytest.importorskip("matplotlib").use("agg")


def fitted(**figures):
    """Return an estimator whose model has given figures."""
    model = GraphRegularizedXC()
    model.model_ = SimpleNamespace(figures=SimpleNamespace(**figures))
    return model


def lines(ax):
    return {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in ax.get_lines()}


def test_weights_over_epochs():
    weights = np.array([1.0, 0.8, 0.6, 0.4, 0.2])
    table = {"epoch": np.array([0.0, 0, 1, 1, 1]), "tag (samples)": weights, "x": 2 * weights}
    drawn = lines(plot_graph_weights(fitted(weights=table)))
    assert list(drawn) == ["tag (samples)", "x"]
    np.testing.assert_allclose(drawn["x"][0], [0, 0.5, 1, 4 / 3, 5 / 3])
    np.testing.assert_array_equal(drawn["x"][1], 2 * weights)


def test_survival_starts_at_all_edges():
    table = {"epoch": np.array([4.0, 6]), "tag (labels)": np.array([0.75, 0.5])}
    drawn = lines(plot_edge_survival(fitted(survival=table)))
    np.testing.assert_array_equal(drawn["tag (labels)"][0], [0, 4, 6])
    np.testing.assert_array_equal(drawn["tag (labels)"][1], [100, 75, 50])


@pytest.mark.parametrize("plot", [plot_graph_weights, plot_edge_survival])
def test_given_axes_and_models_without_a_graph(plot):
    from matplotlib import pyplot

    _, ax = pyplot.subplots()
    empty = {"epoch": np.empty(0)}
    model = fitted(weights=empty, survival=empty)
    assert plot(model, ax=ax) is ax
    assert ax.get_xlabel() == "epoch"
    assert not lines(ax)
    with pytest.raises(NotFittedError):
        plot(GraphRegularizedXC())


def test_a_trained_model():
    data = make_planted_xc(60, 12, random_state=0)
    graph, sample_graph = data.anchor_graph("topic")
    model = GraphRegularizedXC(
        n_epochs=2, label_vectors=False, votes=False, calibration=None, random_state=0
    ).set_params(terms__schedule="fade", terms__prune=Pruning(warmup=1))
    model.fit(
        data.train_texts,
        data.train_labels,
        graph=graph,
        sample_graph=sample_graph,
        label_features=data.label_texts,
    )
    names = ["topic (samples)", "topic (labels)"]
    drawn = lines(plot_graph_weights(model))
    assert list(drawn) == names
    np.testing.assert_array_equal(drawn[names[0]][1], model.graph_weights_[names[0]])
    kept = lines(plot_edge_survival(model))
    assert [kept[name][0].tolist() for name in names] == [[0, 1], [0, 1]]
