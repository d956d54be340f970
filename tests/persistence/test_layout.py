from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from skxc.persistence._layout import Layout


def test_names():
    layout = Layout(Path("m"), "0a1b")
    assert layout.structure == Path("m/model.json")
    assert layout.arrays == Path("m/arrays-0a1b.safetensors")
    with pytest.raises(FrozenInstanceError):
        layout.save_id = "1"


@pytest.mark.parametrize("save_id", ["", "../x", "A", "g", "0" * 33, "a\n"])
def test_ids_cannot_leave_the_folder(save_id):
    with pytest.raises(ValueError, match="not a hexadecimal number"):
        Layout(Path("m"), save_id)


def test_leftovers(tmp_path):
    layout = Layout(tmp_path, "aa")
    old = ["arrays-bb.safetensors", "sparse-bb.npz", ".model.json.cc.tmp", ".tmpAb12Cd"]
    theirs = ["README.md", "arrays-backup.safetensors", ".tmp", "sparse-old.npz", ".model.json.bak"]
    for path in [layout.structure, layout.arrays, *(tmp_path / name for name in old + theirs)]:
        path.touch()
    (tmp_path / "arrays-dd.safetensors").mkdir()
    assert sorted(path.name for path in layout.leftovers()) == sorted(old)
