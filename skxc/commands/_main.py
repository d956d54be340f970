"""The command line: ``python -m skxc benchmark | fit | predict | evaluate | demo``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from skxc.commands import _benchmark, _demo, _evaluate, _fit, _predict

DESCRIPTION = "Extreme multi-label classification: train, use and compare the estimators of skxc."
USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Parameters
    ----------
    arguments : sequence of str, default=None
        The words after the program's name; None takes those of the process.

    Returns
    -------
    int
        Exit status: 0, or 1 if a benchmark run failed, or 2 for a mistake in what was asked, which
        standard error then explains in one sentence.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        return options.run(options)
    except BrokenPipeError:  # the reader of the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError, ImportError) as problem:
        sys.stderr.write(f"skxc {options.command}: {problem}\n")
        return USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m skxc", description=DESCRIPTION)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (_fit, _predict, _evaluate, _benchmark, _demo):
        command.add_parser(subparsers)
    return parser
