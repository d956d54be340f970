"""Sphinx configuration."""

import re
from importlib import import_module
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any, get_origin

project = "skxc"
author = "The skxc developers"
copyright = "2026, the skxc developers"
version = release = installed_version("skxc")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = "skxc"

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

# One page per public name of every room, found through its __all__. Without one, all that the room
# imports would get a page.
_index = Path(__file__).with_name("api").joinpath("index.md").read_text("utf-8")
for _room in re.findall(r"^   (skxc[.\w]*)$", _index, re.MULTILINE):
    if not hasattr(import_module(_room), "__all__"):
        raise RuntimeError(
            f"{_room} has no __all__. Add it, or leave the room out of api/index.md."
        )
autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
# What users import from skxc has its page there, and rooms link to it. Type hints have no page.
_base = import_module("skxc.base")
autosummary_context = {
    "exported": import_module("skxc").__all__,
    "hints": [name for name in _base.__all__ if get_origin(getattr(_base, name)) is Annotated],
}
autodoc_typehints = "none"  # the docstrings give types, shapes and units
maximum_signature_line_length = 88  # longer ones have a line per parameter
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
# Roles that point into the glossary of scikit-learn, in docstrings that are inherited from it.
suppress_warnings = ["ref.term"]


def _escape_fitted_names(
    app: object, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Escape fitted attributes in plain text: ``(n, dim_)`` is no link of reStructuredText."""
    lines[:] = [
        re.sub(r"(?<![\w`*\\])([a-z]\w*)_(?=[\s,.;:)\]]|$)", r"\1\\_", line) for line in lines
    ]


def setup(app: Any) -> None:
    """Run after numpydoc, which has priority 500."""
    app.connect("autodoc-process-docstring", _escape_fitted_names, priority=600)
