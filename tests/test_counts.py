"""What keeps the package readable: few parameters, short recipes, and everything documented."""

import inspect
import re
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

import skxc
from skxc._params import _HEADER, _names_of
from skxc.estimators import all_estimators
from tests.toys import make, small_data, small_texts, takes_labels

MOST_PARAMETERS = 21
MOST_LINES = {"recipe": 250, "base.py": 350}
PACKAGE = Path(skxc.__file__).parent
RECIPES = [
    *sorted(PACKAGE.glob("estimators/_*/recipe.py")),
    PACKAGE / "estimators/_k_neighbors.py",
    PACKAGE / "estimators/_linear_tree.py",
]
EVERY = [estimator for _, estimator in all_estimators()]
every_estimator = pytest.mark.parametrize("estimator", EVERY)

# What tells a fitted estimator how it was fitted, and is not for users.
INTERNAL = {
    *("input_layout_", "target_layout_", "target_dtype_"),
    *("own_labels_", "label_separator_", "calibrated_settings_", "calibration_rows_"),
}


def documented(estimator, section):
    """Return the names that a section of the docstring describes, in order."""
    text = inspect.cleandoc(estimator.__doc__)
    headers = list(_HEADER.finditer(text))
    ends = [header.start() for header in headers[1:]] + [len(text)]
    for header, end in zip(headers, ends, strict=True):
        if header["name"] == section:
            entries = re.split(r"\n(?=\S)", text[header.end() : end].strip())
            return [name for entry in entries for name in _names_of(entry)]
    return []


def is_attribute(name):
    return name.endswith("_") and not name.startswith("_")


def attributes(estimator):
    """Return the names of the attributes of fitted estimators: of texts, and of a matrix."""
    texts, y, label_texts = small_texts()
    X, Y, _ = small_data()
    models = [
        make(estimator, vectorizer=TfidfVectorizer()).fit(
            texts, y, **({"label_features": label_texts} if takes_labels(estimator) else {})
        ),
        make(estimator, calibration="held_out").fit(X, Y),
    ]
    properties = {
        name
        for name in dir(estimator)
        if isinstance(inspect.getattr_static(estimator, name), property)
    }
    return set(filter(is_attribute, properties.union(*map(vars, models))))


@every_estimator
def test_parameters_are_few(estimator):
    assert 0 < len(estimator().get_params(deep=False)) <= MOST_PARAMETERS


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_recipes_are_short(path):
    assert len(path.read_text().splitlines()) <= MOST_LINES["recipe"]


def test_every_estimator_has_a_recipe():
    modules = {inspect.getsourcefile(estimator) for estimator in EVERY}
    assert modules == {str(path) for path in RECIPES}


def test_the_base_class_is_short():
    assert len((PACKAGE / "base.py").read_text().splitlines()) <= MOST_LINES["base.py"]


@every_estimator
def test_every_parameter_is_documented_once(estimator):
    names = documented(estimator, "Parameters")
    assert sorted(names) == sorted(estimator().get_params(deep=False))


@every_estimator
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_attribute_is_documented_once(estimator):
    names = documented(estimator, "Attributes")
    assert len(names) == len(set(names))
    found = attributes(estimator)
    assert found - set(names) - INTERNAL == set()
    # And there are no others than these.
    assert set(names) - found == set()
