import ast
import inspect
import subprocess
import sys
import time
from pathlib import Path

import pytest

import skxc
from skxc._params import Part, _alternatives, hints_of
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
    used = "skxc.KNeighborsXC(), skxc.LabelGraph, skxc.LabelTree, skxc.RandomWalk"
    code = f"import skxc, sys; {used}, skxc.NeighborVotes; print('torch' in sys.modules)"
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


def parts_of(cls):
    """Yield the parts among the parameters of a class, and the parts of these."""
    for hint in hints_of(cls).values():
        for part in _alternatives(hint):
            if inspect.isclass(part) and issubclass(part, Part):
                yield part
                yield from parts_of(part)


def test_every_part_of_an_estimator_is_at_the_top():
    parts = {part for _, estimator in all_estimators() for part in parts_of(estimator)}
    assert {skxc.Training, skxc.NeighborVotes, skxc.RandomWalk, skxc.Bandit} <= parts
    for part in parts:
        assert part.__name__ in skxc.__all__
        assert getattr(skxc, part.__name__) is part


def test_type_checkers_see_every_name_where_it_is():
    tree = ast.parse(Path(skxc.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    shown = {alias.name: node.module for node in block.body for alias in node.names}
    assert shown == {name: f"skxc.{module}" for name, module in skxc._MODULES.items()}
    assert {*shown, "__version__"} == set(skxc.__all__)


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
