import numpy as np
import pytest

from skxc._params import Part, params
from skxc.indices import NAMES, ExactIndex, FaissIndex, IndexLike, make_index


@pytest.mark.parametrize(
    ("spec", "n_items", "cls", "kind"),
    [
        ("auto", 0, ExactIndex, None),
        ("auto", 2_000_000, ExactIndex, None),
        ("auto", 2_000_001, FaissIndex, "hnsw"),
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
    with pytest.raises(ValueError, match=r"`index` must be one of \['auto', 'exact', .* but is"):
        make_index(spec)


@params
class Owner(Part):
    """Something with an index."""

    index: IndexLike = "auto"


@pytest.mark.parametrize("name", ["auto", *NAMES])
def test_a_name_is_a_valid_parameter_and_becomes_an_object(name):
    owner = Owner(index=name)
    owner._validate_params()
    assert repr(owner._part("index")) == repr(make_index(name))


def test_parameters_of_an_index_are_nested():
    owner = Owner(index="ivf").set_params(index__n_probes=3)
    assert repr(owner.index) == "FaissIndex(kind='ivf', n_probes=3)"
    owner.set_params(index__n_probes=0)
    with pytest.raises(ValueError, match="'n_probes' parameter of FaissIndex"):
        owner._validate_params()


def test_another_name_is_refused():
    with pytest.raises(ValueError, match="'index' parameter of Owner must be a str among"):
        Owner(index="fast")._validate_params()
