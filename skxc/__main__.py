"""Entry point of ``python -m skxc``."""

from __future__ import annotations

import sys

from skxc.commands import main

if __name__ == "__main__":
    sys.exit(main())
