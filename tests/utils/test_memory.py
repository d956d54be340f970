import numpy as np
import pytest

import skxc.utils._memory as memory
from skxc import DualEncoderXC, FusionXC, LinearTreeXC
from skxc.datasets import make_planted_xc


def test_limit_and_use():
    held = np.ones(30_000_000, dtype=np.int64)  # 229 MiB
    limit, used = memory.memory_limit(), memory.memory_in_use()
    assert limit is None or limit > 2**28
    assert held.any()
    assert used == 0 or used > held.nbytes


def test_a_container_sets_the_limit(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "old").write_text(f"{2**30}\n")
    monkeypatch.setattr(memory, "_LIMITS", (tmp_path / "memory.max", tmp_path / "none"))
    machine = memory.memory_limit()
    monkeypatch.setattr(memory, "_LIMITS", (tmp_path / "memory.max", tmp_path / "old"))
    assert memory.memory_limit() == 2**30
    assert machine is None or machine > 2**30


@pytest.mark.parametrize("fusion", [False, True])
def test_what_has_no_room_is_refused_before_it_is_trained(monkeypatch, fusion):
    data = make_planted_xc(n_samples=60, n_labels=30, random_state=0)
    model = DualEncoderXC(n_epochs=1)
    if fusion:
        monkeypatch.setattr(LinearTreeXC, "fit", lambda *_, **__: pytest.fail("was fitted"))
        model = FusionXC([("tree", LinearTreeXC()), ("dual", model)])
    monkeypatch.setattr(memory, "memory_limit", lambda: 2**20)
    with pytest.raises(MemoryError, match=r"`fit` of DualEncoderXC needs .* can have 0.0 GiB"):
        model.fit(data.train_texts, data.train_labels, label_features=data.label_texts)
    assert not hasattr(model, "model_")


def test_one_line_says_what_is_expected(monkeypatch, capsys):
    monkeypatch.setattr(memory, "memory_limit", lambda: 20 * 2**30)
    monkeypatch.setattr(memory, "memory_in_use", lambda: 2**30)
    memory.check_memory("Model", 2**31)
    assert capsys.readouterr().err == ""
    memory.check_memory("Model", 2**31, verbose=1)
    assert capsys.readouterr().err == "Model: 3.0 of 20.0 GiB of memory at least\n"
    model = DualEncoderXC()
    needed = 4 * 256 * (3 * 1000 + 200)
    rows = type("Rows", (), {"n_labels": 1000, "n_samples": 200})
    assert model._needed_bytes(rows) == needed
    assert model.set_params(label_vectors=False)._needed_bytes(rows) == 4 * 256 * 1200
