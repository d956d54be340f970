import numpy as np
import pytest
import scipy.sparse as sp

from skxc import LabelGraph
from skxc.inspection import label_neighborhood, plot_label_neighborhood

GRAPH = np.array([[0.5, 0.3, 0.0, 0.4], [0, 0, 0, 0], [0.2, 0.2, 0, 0.2], [0, 0, 0, 1]])
NAMES = ["wine", "grape", "oak", "barrel"]


class Fitted:
    label_graph_ = sp.csr_array(GRAPH)
    label_names_ = NAMES

    def fit(self):
        """Look like an estimator."""


@pytest.mark.parametrize("graph", [GRAPH, sp.csr_array(GRAPH), LabelGraph(GRAPH), Fitted()])
@pytest.mark.parametrize("label", [0, "wine"])
def test_neighbours_by_weight(graph, label):
    found = label_neighborhood(graph, label, names=None if isinstance(graph, Fitted) else NAMES)
    assert (found.label, found.name) == (0, "wine")
    assert found.names == ["barrel", "grape"]
    assert found.neighbors.tolist() == [3, 1]
    np.testing.assert_allclose(found.weights, [0.4, 0.3], rtol=1e-6)
    assert found.loop == 0.5
    assert str(found) == "wine (itself 0.500)\n  0.400  barrel\n  0.300  grape"


def test_ties_limits_and_missing_names():
    found = label_neighborhood(GRAPH, 2, n_neighbors=2)
    assert found.names == ["0", "1"]
    assert found.loop == 0
    assert str(label_neighborhood(GRAPH, 3)) == "3 (itself 1.000)\n  no neighbours"


@pytest.mark.parametrize(
    ("graph", "label", "message"),
    [
        (GRAPH, 4, "between 0 and 3, but is 4"),
        (GRAPH, "vine", "none is called 'vine'"),
        (GRAPH[:2], 0, r"shape \(2, 4\)"),
    ],
)
def test_errors(graph, label, message):
    with pytest.raises(ValueError, match=message):
        label_neighborhood(graph, label)


def test_an_estimator_without_a_graph():
    class Bare:
        fit = None

    with pytest.raises(ValueError, match="Bare without `label_graph_`"):
        label_neighborhood(Bare(), 0)


def test_the_plot_shows_names_and_weights():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    ax = plot_label_neighborhood(label_neighborhood(GRAPH, 0, names=NAMES))
    shown = {text.get_text() for text in ax.texts}
    assert shown == {"wine", "barrel\n0.400", "grape\n0.300"}
    widths = [line.get_linewidth() for line in ax.lines]
    assert widths[0] > widths[1]
    own = pyplot.figure().add_subplot()
    assert plot_label_neighborhood(label_neighborhood(GRAPH, 3), ax=own) is own
    pyplot.close("all")
