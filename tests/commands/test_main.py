"""The program itself: help, exit status, what it imports."""

import subprocess
import sys

import pytest

from skxc.commands import main

COMMANDS = ["benchmark", "demo", "evaluate", "fit", "predict"]


def test_help_lists_all_commands(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert "show this help message" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["benchmark"], ["fit"]])
def test_wrong_usage_ends_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_python_m_skxc_ends_with_the_status():
    command = [sys.executable, "-m", "skxc", "predict", "no-such-model"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("skxc predict: ")
    assert "Traceback" not in ended.stderr


def test_the_commands_load_no_deep_learning_package():
    code = "import sys, skxc.commands; print({'torch', 'transformers', 'faiss'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "set()"
