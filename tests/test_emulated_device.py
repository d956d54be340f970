"""Training on a device: the bits of the CPU, and few waits and copies a step."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

#: Most often a step may make the host wait, and copy something; not listed: as DualEncoderXC.
BUDGETS = {
    "DualEncoderXC": (1, 6),
    "DualEncoderXC clipped": (2, 6),
    "DualEncoderXC chunks": (1, 14),
    "DualEncoderXC soft_topk": (4, 6),
    "LabelGraphXC": (1, 8),
    "LearnedIndexXC": (2, 12),
}


def test_every_estimator_trains_on_a_device_as_on_the_cpu():
    answer = subprocess.run(
        [sys.executable, "-m", "tests.emulated_fits"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    if "No module named 'torch.utils.backend_registration'" in answer.stderr:
        pytest.skip("This torch cannot emulate a device.")
    assert answer.returncode == 0, answer.stderr[-2000:]
    found = json.loads(answer.stdout)
    cases = found["cases"]
    assert [name for name, case in cases.items() if not case["equal"]] == []
    over = {}
    for name, case in cases.items():
        syncs, copies = BUDGETS.get(name, BUDGETS["DualEncoderXC"])
        assert case["kernel"] > 50, name
        if case["sync"] > syncs or case["copy"] > copies:
            over[name] = case
    assert over == {}
    # What is forgotten on the CPU raises, and a number that is read is counted.
    assert "on the same device" in found["mistakes"]["said"]
    assert found["mistakes"]["sync"] == 1 + cases["DualEncoderXC clipped"]["sync"]
