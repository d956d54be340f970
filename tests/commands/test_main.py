"""The program itself: help, exit status, what it imports."""

import os
import signal
import subprocess
import sys
import time

import pytest

import skxc
from skxc.commands import main

COMMANDS = ["benchmark", "demo", "evaluate", "fit", "predict", "warm-up"]


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


@pytest.mark.parametrize(
    "arguments",
    [[], ["unknown"], ["benchmark"], ["fit"], ["predict", "m", "-k", "x"], ["fit", "--no", "a"]],
)
def test_wrong_usage_ends_with_status_2_and_one_sentence(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("skxc") and error.endswith("--help` explains more.\n")
    assert error.count("\n") == 1


def test_the_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"skxc {skxc.__version__}\n"


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_an_interruption_is_one_line_and_status_130(tmp_path):
    code = "from skxc.commands import _main; _main.run = input; import skxc.commands, sys; "
    code += "print(flush=True); sys.exit(skxc.commands.main([]))"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True) as process:
        process.stdout.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        process.wait(60)
        error = process.stderr.read()
    assert (process.returncode, error) == (130, "skxc: interrupted.\n")


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
