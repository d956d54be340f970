"""What a type checker tells a user."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """\
import numpy as np
import scipy.sparse as sp

import skxc
from skxc import DualEncoderXC, FusionXC, KNeighborsXC, LabelTexts
from skxc.ranking import NeighborVotes

texts = ["red wine", "white wine", "deep learning"]
y = sp.csr_array(np.eye(3))
names = LabelTexts(["wine", "grape", "networks"])

model = DualEncoderXC(n_epochs=2, votes=NeighborVotes(weight=0.3), random_state=0)
reveal_type(skxc.DualEncoderXC())
reveal_type(model.fit(texts, y, label_features=names))
reveal_type(model.predict_labels(texts, k=2))
fusion = FusionXC([("near", KNeighborsXC(n_neighbors=3))], objective="recall@5")
fusion.fit(texts, y, sample_weight=[1, 2, 3])
wrong = DualEncoderXC(n_epoch=2)
votes = NeighborVotes(weigth=0.3)
off = DualEncoderXC(votes="no")
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Return the lines that mypy prints for the script."""
    script = tmp_path_factory.mktemp("user") / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "mypy", "--no-error-summary"]
    command += ["--ignore-missing-imports", "--follow-imports", "silent", str(script)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert not done.stderr
    return dict(_numbered(line) for line in done.stdout.splitlines() if "script.py:" in line)


def _numbered(line):
    _, number, text = line.split(":", 2)
    return int(number), text


def test_the_class_is_known(answers):
    first = SCRIPT.splitlines().index("reveal_type(skxc.DualEncoderXC())") + 1
    assert "DualEncoderXC" in answers[first]
    assert "Any" not in answers[first]
    assert "DualEncoderXC" in answers[first + 1]
    assert "list[list[Any]]" in answers[first + 2]


def test_wrong_arguments_are_errors(answers):
    last = len(SCRIPT.splitlines())
    assert 'Unexpected keyword argument "n_epoch" for "DualEncoderXC"' in answers[last - 2]
    assert 'Unexpected keyword argument "weigth" for "NeighborVotes"' in answers[last - 1]
    assert 'Argument "votes" to "DualEncoderXC" has incompatible type' in answers[last]


def test_right_lines_have_no_errors(answers):
    assert sum("error" in answer for answer in answers.values()) == 3
