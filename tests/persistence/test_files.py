import os
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from skxc.persistence import _files
from skxc.persistence._files import (
    check_regular,
    claimed,
    flush,
    remove_abandoned,
    write_arrays,
    write_atomically,
)


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "a.txt"
    for text in ("one", "two"):
        write_atomically(path, lambda place, text=text: place.write_text(text))
        assert path.read_text() == text
        assert list(tmp_path.iterdir()) == [path]


def test_the_name_appears_only_when_complete(tmp_path):
    path = tmp_path / "a.txt"

    def write(place):
        place.write_text("half")
        assert not path.exists()
        assert place.parent == tmp_path

    write_atomically(path, write)
    assert path.read_text() == "half"


@pytest.mark.parametrize("old", [None, "old"])
def test_a_crash_leaves_the_old_content(tmp_path, old):
    path = tmp_path / "a.txt"
    if old:
        path.write_text(old)

    def write(place):
        place.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, write)
    assert [p.read_text() for p in tmp_path.iterdir()] == ([old] if old else [])


def test_content_is_flushed_before_the_rename(tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr("skxc.persistence._files.flush", lambda path: events.append(path))
    path = tmp_path / "a.txt"
    write_atomically(path, lambda place: events.append("write") or place.write_text("x"))
    assert events[0] == "write"
    assert events[1].name.startswith(".a.txt.")
    assert events[2] == tmp_path


def test_flush_of_files_and_folders(tmp_path):
    (tmp_path / "a").write_text("x")
    flush(tmp_path / "a")
    flush(tmp_path)
    with pytest.raises(FileNotFoundError):
        flush(tmp_path / "b")


def test_files_that_are_being_written_are_not_abandoned(tmp_path):
    path, other = tmp_path / "a", tmp_path / "b"
    other.touch()
    with claimed(path):
        path.write_text("half")
        remove_abandoned([path, other, tmp_path / "gone"])
        assert path.read_text() == "half"
        assert not other.exists()
    remove_abandoned([path], lambda: [path])
    assert path.exists()
    remove_abandoned([path])
    assert not path.exists()


def test_a_claim_survives_a_process_that_removes_the_new_file(tmp_path, monkeypatch):
    """Between making the file and locking it."""
    path, lock, seen = tmp_path / "a", _files._lock, []

    def lock_late(descriptor, path):
        if not seen:
            seen.append(remove_abandoned([path]))
            assert not path.exists()
        return lock(descriptor, path)

    monkeypatch.setattr(_files, "_lock", lock_late)
    with claimed(path):
        assert path.exists()
        remove_abandoned([path])
        assert path.exists()


def test_without_locks_age_tells(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "fcntl", None)
    fresh, old = tmp_path / "fresh", tmp_path / "old"
    with claimed(fresh):
        fresh.write_text("x")
    old.touch()
    os.utime(old, (time.time() - 2 * _files.ABANDONED,) * 2)
    remove_abandoned([fresh, old])
    assert fresh.exists()
    assert not old.exists()


def test_the_next_write_removes_what_a_killed_one_left(tmp_path):
    path = tmp_path / "a.txt"
    (tmp_path / ".a.txt.0a.tmp").write_text("half")
    (tmp_path / ".b.txt.0a.tmp").write_text("of another file")
    write_atomically(path, lambda place: place.write_text("x"))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".b.txt.0a.tmp", "a.txt"]


def test_arrays_are_as_the_library_writes_them(tmp_path):
    arrays = {
        "flags": np.array([True, False, True]),
        "half": np.ones((2, 3), np.float16),
        "scalar": np.array(3),
        "strided": np.arange(10, dtype=np.uint8)[::3],
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "empty": np.zeros((0, 4), np.int16),
        "big endian": np.arange(3, dtype=">i4"),
    }
    write_arrays(tmp_path / "a", arrays)
    found = load_file(tmp_path / "a")
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found[name], array)
        assert found[name].shape == array.shape
    write_arrays(tmp_path / "a", {})
    assert load_file(tmp_path / "a") == {}


def test_only_files_of_the_folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").touch()
    (tmp_path / "in" / "file").touch()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "in" / "file")
    (tmp_path / "in" / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "in" / "null").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "in" / "pipe")
    check_regular(tmp_path / "in" / "file")
    check_regular(tmp_path / "in" / "link")
    (tmp_path / "again").symlink_to(tmp_path / "in")
    check_regular(tmp_path / "again" / "file")
    for name in ("out", "null", "pipe", "."):
        with pytest.raises(ValueError, match="must be a file of the folder"):
            check_regular(tmp_path / "in" / name)
