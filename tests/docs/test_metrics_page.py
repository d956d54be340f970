"""The page on metrics: its code runs, and prints what stands below it."""

import contextlib
import io
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "user_guide" / "metrics_and_protocol.md"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n^```text\n(.*?)^```)?", re.M | re.S)


def test_code_prints_what_the_page_shows():
    blocks = BLOCK.findall(PAGE.read_text("utf-8"))
    assert len([shown for _, shown in blocks if shown]) >= 5
    names = {"__name__": "page"}
    for code, shown in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, PAGE.name, "exec"), names)
        assert printed.getvalue() == shown
