"""Saves that are killed, and saves and loads at one time, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "results" / "saving.py"
# The campaigns of the script, with one line changed.
CHANGED = """
import runpy, sys
import skxc.persistence._files as files
import skxc.persistence._save_load as module
{change}
sys.argv = ["saving.py", {arguments}]
runpy.run_path({script!r}, run_name="__main__")
"""
WITHOUT_LOCKS = "files._lock = lambda descriptor, path: True"
WITHOUT_CLEANING = """
module.remove_abandoned = lambda *_: None
files.remove_abandoned = lambda *_: None
"""


def campaigns(*arguments, change=""):
    """Return what was wrong, for kills and for pairs."""
    program = CHANGED.format(
        change=change, arguments=", ".join(map(repr, arguments)), script=str(SCRIPT)
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [*map(json.loads, done.stdout.splitlines()), done.stderr]


@pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")
def test_killed_and_simultaneous_saves():
    kills, pairs, stderr = campaigns("--kills", "6", "--pairs", "4", "--seconds", "3")
    del kills["kills amid a save"]
    assert set(kills.values()) == {0, 6}, (kills, stderr)
    assert set(pairs.values()) == {0, 4}, (pairs, stderr)


@pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")
@pytest.mark.parametrize(
    ("change", "campaign", "what"),
    [
        (WITHOUT_LOCKS, 1, "failed"),
        (WITHOUT_CLEANING, 0, "leftovers"),
    ],
    ids=["locks", "cleaning"],
)
def test_the_test_notices_what_is_missing(change, campaign, what):
    found = campaigns("--kills", "12", "--pairs", "12", change=change)[campaign]
    assert sum(count for name, count in found.items() if name.startswith(what)) > 0
