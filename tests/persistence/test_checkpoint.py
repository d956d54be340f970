import os

import numpy as np
import pytest

from skxc.persistence import read_state, write_state


def test_round_trip(tmp_path):
    path = tmp_path / "state.safetensors"
    arrays = {
        "module/w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "strided": np.arange(10)[::3],
        "scalar": np.array(3, dtype=np.int64),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 4), dtype=np.float16),
    }
    meta = {"epoch": 3, "loss": float("inf"), "names": ["ä", None], "nested": {"x": [1.5, -0.1]}}
    assert write_state(path, arrays, meta) is None
    found, found_meta = read_state(path)
    assert found_meta == meta
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
        assert found[name].shape == array.shape


def test_missing_file_is_none(tmp_path):
    assert read_state(tmp_path / "none.safetensors") is None


def test_empty_state_and_str_path(tmp_path):
    path = str(tmp_path / "state")
    write_state(path, {})
    assert read_state(path) == ({}, None)


def test_a_crash_leaves_the_old_state(tmp_path, monkeypatch):
    path = tmp_path / "state"
    write_state(path, {"x": np.zeros(2)}, 1)

    def save_half(place, arrays, metadata):
        place.write_bytes(b"\x00" * 10)
        raise OSError("No space left on device")

    monkeypatch.setattr("skxc.persistence._checkpoint.write_arrays", save_half)
    with pytest.raises(OSError, match="No space left"):
        write_state(path, {"x": np.ones(2)}, 2)
    arrays, meta = read_state(path)
    assert meta == 1
    np.testing.assert_array_equal(arrays["x"], [0, 0])
    assert list(tmp_path.iterdir()) == [path]


def test_unusable_meta_writes_nothing(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_state(tmp_path / "state", {}, {"rng": np.random.default_rng(0)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_torn_files(tmp_path, keep):
    path = tmp_path / "state"
    write_state(path, {"x": np.arange(100.0)}, {"epoch": 1})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"`.*state` must be a state .* Delete the file to start"):
        read_state(path)


def test_other_files(tmp_path):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3)}, tmp_path / "other")
    (tmp_path / "text").write_text("not a state, but a text that is a bit longer")
    for name in ("other", "text"):
        with pytest.raises(ValueError, match="damaged or something else"):
            read_state(tmp_path / name)


def test_arrays_can_be_written_to(tmp_path):
    write_state(tmp_path / "state", {"x": np.zeros(3)})
    arrays, _ = read_state(tmp_path / "state")
    arrays["x"] += 1
    np.testing.assert_array_equal(read_state(tmp_path / "state")[0]["x"], [0, 0, 0])


def test_what_a_killed_write_leaves_goes_with_the_next_one(tmp_path):
    for name in (".state.ab.tmp", ".state.cd.tmp"):
        (tmp_path / name).write_bytes(b"half")
    write_state(tmp_path / "state", {"x": np.zeros(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_full_disk_is_an_os_error():
    with pytest.raises(OSError):
        write_state("/dev/full/state", {"x": np.zeros(2)})


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "state")
    with pytest.raises(ValueError, match="must be a state written by"):
        read_state(tmp_path / "state")
