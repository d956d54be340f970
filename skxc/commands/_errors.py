"""The error of the command line: one sentence for the user, exit status 2."""

from __future__ import annotations


class UsageError(ValueError):
    """What was asked for cannot be done; the message says why and what to write instead."""
