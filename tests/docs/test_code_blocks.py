"""The Python code in the documentation runs as it is written."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    str(page.relative_to(ROOT))
    for page in sorted([ROOT / "docs/quickstart.md", *ROOT.glob("docs/user_guide/*.md")])
    if "```python" in page.read_text("utf-8") and page.stem != "metrics_and_protocol"
]


@pytest.mark.parametrize("page", PAGES)
def test_code_blocks_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.M | re.S)
    assert blocks
    names = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, page, "exec"), names)


def test_links_between_pages_lead_somewhere():
    pages = [*ROOT.glob("docs/**/*.md"), ROOT / "README.md"]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+\.md)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"
