"""Who may import whom: arrows point from recipes to ingredients, never back."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "skxc"

# What a room may import anywhere, also inside functions.
MAY_IMPORT = {
    "estimators": {
        "base",
        "labels",
        "training",
        "negatives",
        "batching",
        "graphs",
        "clustering",
        "encoders",
        "indices",
        "losses",
        "ranking",
        "linear",
        "fusion",
        "calibration",
        "metrics",
        "utils",
        "exceptions",
    },
    "training": {"losses", "negatives", "batching", "graphs", "metrics", "persistence", "utils"},
    "negatives": {"indices", "clustering", "utils"},
    "batching": {"indices", "clustering", "utils"},
    "linear": {"clustering", "utils"},
    "ranking": {"utils"},
    "fusion": {"ranking", "metrics", "calibration", "utils"},
    "graphs": {"utils"},
    "losses": {"utils"},
    "indices": {"ranking", "utils", "exceptions"},
    "encoders": {"utils"},
    "clustering": {"utils"},
    "datasets": {"labels", "metrics", "utils"},
    "metrics": {"utils"},
    "calibration": {"utils"},
    "persistence": {"utils", "exceptions"},
    "model_selection": {"metrics", "utils"},
    "base": {"labels", "utils", "exceptions"},
    "labels": {"utils", "exceptions"},
    "_params": {"utils"},
    "exceptions": set(),
    "utils": {"exceptions"},
}
# What every room may import: the language of parameters.
FOR_ALL = {"_params"}
# What a room may import inside functions only, so that the rooms still load without each other:
# the base class calibrates and saves itself.
MAY_IMPORT_ON_USE = {"base": {"calibration", "persistence"}}
# Anything public.
FREE = {"inspection", "benchmark", "commands", "presets", "__init__", "__main__", "_warm_up"}

WITHOUT_TORCH = {
    *("metrics", "datasets", "graphs", "clustering", "linear", "model_selection"),
    *("fusion", "ranking"),
    *("base", "labels", "calibration", "exceptions"),
}
ON_USE_ONLY = {"transformers", "faiss"}


# The base class is spread over several files, which are one room.
BASE = {
    *("base", "_training_set", "_model", "_hold_out", "_outputs", "_state", "_answers", "_allowed"),
    *("_own_labels", "_label_side"),
}


def room_of(name):
    """Return the room of a file or folder of the package."""
    name = name.removesuffix(".py")
    return "base" if name in BASE else name


def rooms():
    return sorted({room_of(path.relative_to(PACKAGE).parts[0]) for path in sources()})


def sources():
    return [path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts]


def files_of(room):
    return [path for path in sources() if room_of(path.relative_to(PACKAGE).parts[0]) == room]


def imports_of(path):
    """Yield (module, whether it is imported when the file is), without typing-only imports."""
    yield from _imports(ast.parse(path.read_text()).body, at_load=True)


def _imports(nodes, at_load):
    for node in nodes:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_load) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module, at_load
            yield from ((f"{node.module}.{alias.name}", at_load) for alias in node.names)
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _imports(ast.iter_child_nodes(node), at_load and not is_function)


def imported_rooms(room, at_load=None):
    known = set(rooms())
    found = set()
    for path in files_of(room):
        for module, when in imports_of(path):
            parts = module.split(".")
            if parts[0] == "skxc" and len(parts) > 1 and at_load in (None, when):
                found.add(room_of(parts[1]))
    return (found & known) - {room}


@pytest.mark.parametrize("room", sorted(set(rooms()) - FREE))
def test_rooms_import_what_they_may(room):
    assert room in MAY_IMPORT, f"say in MAY_IMPORT what `{room}` may import"
    allowed = MAY_IMPORT[room] | FOR_ALL
    assert imported_rooms(room, at_load=True) <= allowed
    assert imported_rooms(room) <= allowed | MAY_IMPORT_ON_USE.get(room, set())


@pytest.mark.parametrize("room", sorted(set(rooms()) & WITHOUT_TORCH))
def test_no_torch_at_all(room):
    modules = {
        module.partition(".")[0] for path in files_of(room) for module, _ in imports_of(path)
    }
    assert "torch" not in modules


def test_rooms_without_torch_do_not_load_it_either():
    names = ", ".join(f"skxc.{room}" for room in sorted(set(rooms()) & WITHOUT_TORCH))
    code = f"import sys, {names}; print(sorted({ON_USE_ONLY | {'torch'}} & set(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_heavy_packages_are_imported_on_use():
    heavy = {
        (path.name, module)
        for path in sources()
        for module, at_load in imports_of(path)
        if at_load and module.partition(".")[0] in ON_USE_ONLY
    }
    assert heavy == set()


def test_estimators_are_imported_by_the_outside_only():
    importers = {room for room in rooms() if "estimators" in imported_rooms(room)}
    assert importers <= FREE


def test_the_table_has_no_stale_rooms():
    planned = {"linear"}
    assert set(MAY_IMPORT) - set(rooms()) <= planned


def test_the_reader_of_imports(tmp_path):
    source = "import a\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import b\n"
    source += (
        "def f():\n    from skxc.c import d\ntry:\n    import e\nexcept ImportError:\n    pass\n"
    )
    (tmp_path / "module.py").write_text(source)
    found = set(imports_of(tmp_path / "module.py"))
    assert {("a", True), ("skxc.c", False), ("skxc.c.d", False), ("e", True)} <= found
    assert "b" not in {module for module, _ in found}
