"""The options that the benchmark command and the scripts of the results pages share."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the data folder, ``--seed``, ``--texts`` and ``--hold-out``.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    """
    parser.add_argument("folder", type=Path, help="a data folder; see the user guide for the files")
    parser.add_argument(
        "--seed", type=int, nargs="+", default=[0], help="values of random_state (default: 0)"
    )
    parser.add_argument(
        "--texts", action="store_true", help="use texts even where features are given"
    )
    parser.add_argument(
        "--hold-out",
        type=int,
        metavar="N",
        help="score N training rows that are kept out of fit instead of the test rows",
    )
