"""The command line: ``python -m skxc benchmark | fit | predict | evaluate | demo | warm-up``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

import skxc
from skxc.commands import _benchmark, _demo, _evaluate, _fit, _predict, _warm_up
from skxc.commands._options import USAGE_ERROR, Parser

DESCRIPTION = "Extreme multi-label classification: train, use and compare the estimators of skxc."


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; return the exit status that :func:`skxc.commands.main` describes."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser, commands = _parser()
    if words[:1] and words[0] in commands:
        # Options may stand anywhere, which argparse does not support below a subcommand.
        options = commands[words[0]].parse_intermixed_args(words[1:])
    else:
        options = parser.parse_args(words)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        return options.run(options)
    except BrokenPipeError:  # the reader of the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as problem:
        reason = " ".join(str(problem).split()) or type(problem).__name__
        sys.stderr.write(f"skxc {words[0]}: {reason}\n")
        return USAGE_ERROR


def _parser() -> tuple[Parser, dict[str, argparse.ArgumentParser]]:
    parser = Parser(prog="skxc", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"skxc {skxc.__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (_fit, _predict, _evaluate, _benchmark, _demo, _warm_up):
        command.add_parser(subparsers)
    return parser, dict(subparsers.choices)
