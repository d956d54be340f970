"""The command line of the package, thin over the estimators."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

INTERRUPTED = 130


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
        standard error then explains in one sentence, or 130 after Ctrl-C.
    """
    try:
        # Here, since Ctrl-C may come while modules are imported.
        from skxc.commands._main import run

        return run(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("skxc: interrupted.\n")
        return INTERRUPTED
