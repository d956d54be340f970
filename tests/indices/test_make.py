import numpy as np
import pytest

from skxc.indices import ExactIndex, FaissIndex, make_index


@pytest.mark.parametrize(
    ("spec", "n_items", "cls", "kind"),
    [
        ("auto", 0, ExactIndex, None),
        ("auto", 500_000, ExactIndex, None),
        ("auto", 500_001, FaissIndex, "hnsw"),
        ("exact", 10**9, ExactIndex, None),
        ("hnsw", 5, FaissIndex, "hnsw"),
        ("ivf", 5, FaissIndex, "ivf"),
    ],
)
def test_names(spec, n_items, cls, kind):
    index = make_index(spec, n_items)
    assert type(index) is cls
    assert getattr(index, "kind", None) == kind
    assert index.n_items == 0


def test_objects_are_copied_empty():
    given = FaissIndex("ivf", n_probes=3)
    given.add(np.eye(3))
    made = make_index(given)
    assert made is not given
    assert made.get_params() == given.get_params()
    assert (made.n_items, given.n_items) == (0, 3)


@pytest.mark.parametrize("spec", ["fast", None, 3, ExactIndex])
def test_anything_else(spec):
    with pytest.raises(ValueError, match=r'`index` must be "auto", "exact", .* but is'):
        make_index(spec)
