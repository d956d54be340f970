import pytest

from skxc.persistence._files import flush, write_atomically


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
