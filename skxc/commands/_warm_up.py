"""``python -m skxc warm-up``: compile ahead, such as when an image is built."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import skxc
from skxc.commands._options import new_parser

DESCRIPTION = """\
Compile what estimators would compile when they are first used, and keep it: beside the package, or
in the folder that NUMBA_CACHE_DIR names. Later, a folder that can only be read will do.
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    summary = "compile ahead what estimators compile when they are first used"
    parser = new_parser(subparsers, "warm-up", summary, description=DESCRIPTION)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the subcommand."""
    folders = skxc.warm_up()
    if not folders:
        raise OSError(
            "No folder for compiled functions can be written to. Set NUMBA_CACHE_DIR to one."
        )
    sys.stderr.write(f"Compiled functions are kept in {', '.join(folders)}.\n")
    return 0
