import json
import sys

import pytest

from skxc.utils._optional import import_optional


def test_an_installed_package():
    assert import_optional("json", extra="none", purpose="The test") is json


def test_a_missing_package_names_its_extra():
    with pytest.raises(ImportError, match=r"FaissIndex needs .*`nowhere`.*skxc\[ann\]") as caught:
        import_optional("nowhere", extra="ann", purpose="FaissIndex")
    assert caught.value.name == "nowhere"


def test_a_broken_package_shows_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import missing_part")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="missing_part"):
        import_optional("broken_package", extra="none", purpose="The test")
    assert "broken_package" not in sys.modules
