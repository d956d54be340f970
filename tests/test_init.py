import subprocess
import sys
import time

import pytest

import skxc
from skxc.estimators import all_estimators


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()


def test_import_loads_nothing_heavy():
    heavy = ("numpy", "scipy", "sklearn", "torch", "transformers", "faiss", "pandas")
    code = f"import skxc, sys; print(*[name for name in {heavy} if name in sys.modules])"
    assert run(code) == []


def test_linear_rooms_leave_torch_alone():
    code = "import skxc, sys; skxc.KNeighborsXC(), skxc.LabelGraph; print('torch' in sys.modules)"
    assert run(code) == ["False"]


def test_import_is_quick():
    code = "import time; t = time.perf_counter(); import skxc; print(time.perf_counter() - t)"
    start = time.perf_counter()
    assert min(float(run(code)[0]) for _ in range(2)) < 1
    assert time.perf_counter() > start


@pytest.mark.parametrize("name", skxc.__all__)
def test_public_names(name):
    assert getattr(skxc, name) is not None
    assert name in dir(skxc)


@pytest.mark.parametrize("room", ["metrics", "estimators", "labels", "datasets"])
def test_rooms_are_attributes(room):
    assert run(f"import skxc; print(skxc.{room}.__name__)") == [f"skxc.{room}"]
    assert room in dir(skxc)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="'skxc' has no attribute 'nothing'"):
        _ = skxc.nothing
    with pytest.raises(AttributeError, match=r"'skxc\.estimators' has no attribute 'nothing'"):
        _ = skxc.estimators.nothing


def test_all_estimators():
    found = dict(all_estimators())
    assert list(found) == sorted(found)
    assert "BaseXC" not in found
    assert found["KNeighborsXC"] is skxc.KNeighborsXC
    assert set(found) <= set(skxc.__all__) & set(skxc.estimators.__all__)
