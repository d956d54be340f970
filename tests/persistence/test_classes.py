import sys

import pytest
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import TfidfVectorizer

from skxc.indices import ExactIndex
from skxc.labels import LabelGraph
from skxc.persistence._classes import can_be_saved, class_name, find_class, is_record
from skxc.persistence._layout import Layout


class Foreign(BaseEstimator):
    pass


@pytest.mark.parametrize("cls", [TfidfVectorizer, ExactIndex, LabelGraph, Layout, BaseEstimator])
def test_own_classes(cls):
    assert find_class(class_name(cls)) is cls
    assert can_be_saved(cls)


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "builtins:eval",
        "skxc:load",
        "skxc",
        "",
        "skxc.indices:ExactIndex",  # not where it is defined
        "skxc.indices._exact:np",
        "skxc.indices._exact:ExactIndex.search",
        "skxc.no_such_module:Thing",
        "sklearn.utils._bunch:Bunch",
        "sklearn.tree._tree:Tree",
        "skxc.__main__:main",
        "skxc.exceptions:DenseOutputError",
    ],
)
def test_everything_else_is_refused(name):
    before = set(sys.modules)
    with pytest.raises(ValueError, match=r"not a class of|there is no class|not an estimator"):
        find_class(name)
    assert "skxc.__main__" not in set(sys.modules) - before


def test_classes_of_users_and_local_classes():
    class Local(BaseEstimator):
        pass

    Local.__module__ = "skxc.indices"
    assert not can_be_saved(Foreign)
    assert not can_be_saved(Local)
    assert not can_be_saved(dict)
    assert not can_be_saved(type(len))


def test_modules_of_other_packages_are_not_imported(tmp_path, monkeypatch):
    (tmp_path / "evil_module_xyz.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="is not a class of skxc"):
        find_class("evil_module_xyz:Estimator")
    assert "evil_module_xyz" not in sys.modules


def test_missing_optional_packages_speak_for_themselves(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("skxc.persistence._classes.import_module", missing)
    with pytest.raises(ModuleNotFoundError, match="torch"):
        find_class("skxc.encoders:Anything")


def test_records():
    assert is_record(Layout)
    assert not is_record(ExactIndex)
