"""Compiled loops where folders cannot be written to, are damaged, or were filled ahead."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import pytest

import skxc

PACKAGE = pathlib.Path(skxc.__file__).parent
PROGRAM = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(message)s")
import numpy as np
from skxc.fusion._boosted import _add_trees
zeros = np.zeros((1, 1), dtype=np.int64)
for _ in range(2):
    total = np.zeros(2)
    arrays = (zeros, np.zeros((1, 1)), zeros, zeros, np.full((1, 1), 3.0))
    _add_trees(np.zeros((2, 1)), *arrays, total)
print(total.tolist(), len(_add_trees.stats.cache_hits), _add_trees._cache.cache_path)
"""


@pytest.fixture
def copy():
    """A folder, open to every user, with a copy of the package that holds nothing compiled."""
    ignored = shutil.ignore_patterns("__pycache__")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        shutil.copytree(PACKAGE, f"{folder}/copy/skxc", ignore=ignored)
        yield pathlib.Path(folder) / "copy"


def ran(copy, folder):
    """Run the program with a folder for numba's cache; return what it printed, and its log."""
    variables = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "NUMBA_CACHE_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=copy,
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip(), done.stderr


def test_all_loops_are_compiled_in_one_way():
    found = [
        path.name for path in PACKAGE.rglob("*.py") if re.search(r"numba\.n?jit", path.read_text())
    ]
    assert found == ["_compiled.py"]


def test_loops_are_kept_and_damaged_files_made_anew(copy, tmp_path):
    cache = tmp_path / "cache"
    answer, log = ran(copy, cache)
    assert answer.startswith("[3.0, 3.0] 0 ")
    assert log.count("Compiling, once on this machine") == 1
    answer, log = ran(copy, cache)
    assert answer.startswith("[3.0, 3.0] 1 ")
    assert log == ""
    for path in cache.rglob("*.nb?"):
        path.write_bytes(path.read_bytes()[:-9])
    assert ran(copy, cache)[0].startswith("[3.0, 3.0] 0 ")
    assert ran(copy, cache)[0].startswith("[3.0, 3.0] 1 ")


def unprivileged():
    """Return the words that run a command as another user without capabilities, or skip."""
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]
    words += ["--inh-caps=-all", "--no-new-privs"]
    if shutil.which("setpriv") is None or os.geteuid() != 0:
        pytest.skip("only root, with setpriv, can become a user without a home")
    if subprocess.run([*words, sys.executable, "-c", "import torch"], check=False).returncode:
        pytest.skip("another user cannot run this interpreter")
    return words


LOCKED = """
import sys
import numpy as np
from pathlib import Path
import skxc
texts = ["red wine", "white wine", "deep learning", "old oak"] * 5
y = np.tile(np.eye(4), (5, 1))
model = skxc.LinearTreeXC(random_state=0).fit(texts, y)
model.save(Path(sys.argv[1]) / "tree")
again = skxc.load(Path(sys.argv[1]) / "tree")
assert again.predict_labels(["red wine"], k=1) == model.predict_labels(["red wine"], k=1)
dual = skxc.DualEncoderXC(n_epochs=1, random_state=0).set_params(encoder__dim=8)
dual.fit(texts, y).save(Path(sys.argv[1]) / "dual")
skxc.load(Path(sys.argv[1]) / "dual").predict_topk(texts, 2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("filled", [False, True])
def test_a_locked_down_machine(copy, filled):
    """No home, no variables, no capabilities, a package that nobody can write to."""
    words = unprivileged()
    if filled:
        warm = [sys.executable, "-m", "skxc", "warm-up"]
        subprocess.run(warm, cwd=copy, env={"PATH": os.environ["PATH"]}, check=True)
    subprocess.run(["chmod", "-R", "a-w,a+rX", str(copy)], check=True)
    open_folder = copy.parent / "open"
    open_folder.mkdir()
    open_folder.chmod(0o777)
    (open_folder / "query.txt").write_text("red wine\n")
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "TMPDIR": "/nowhere"}

    def run(*command):
        return subprocess.run(
            [*words, sys.executable, *command],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    done = run("-c", LOCKED, str(open_folder))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("No folder for compiled functions") == (0 if filled else 1)
    query = [str(open_folder / "tree"), str(open_folder / "query.txt"), "-k", "1"]
    done = run("-m", "skxc", "predict", *query)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0\t")
