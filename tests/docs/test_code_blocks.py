"""The Python code in the documentation runs as it is written, and commands name what there is."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from skxc.benchmark import build_estimator

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
    module = ModuleType("page")  # classes know their module, by which type hints are read
    monkeypatch.setitem(sys.modules, "page", module)
    for block in blocks:
        exec(compile(block, page, "exec"), vars(module))


def expressions():
    """Return the estimators that commands of `python -m skxc` name, with their pages."""
    found = {}
    for page in [*ROOT.glob("docs/**/*.md"), ROOT / "README.md"]:
        blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
        commands = "".join(blocks).replace("\\\n", " ").splitlines()
        for command in (line for line in commands if "-m skxc" in line):
            for text in re.findall(r'"(\w+\(.*?\))"', command):
                found.setdefault(text, page.name)
    return sorted(found.items())


def test_commands_name_estimators_that_can_be_built():
    assert len(expressions()) >= 20
    for text, page in expressions():
        try:
            build_estimator(text)._validate_params()
        except ValueError as problem:
            pytest.fail(f"{page}: {problem}")


def test_links_between_pages_lead_somewhere():
    pages = [*ROOT.glob("docs/**/*.md"), ROOT / "README.md"]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+\.md)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"
