"""Sphinx configuration."""

from importlib.metadata import version as installed_version

project = "skxc"
author = "The skxc developers"
copyright = "2026, the skxc developers"
version = release = installed_version("skxc")

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = "skxc"

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

# One page per public name of every room, found through its __all__.
autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_typehints = "none"  # the docstrings give types, shapes and units
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
# Roles that point into the glossary of scikit-learn, in docstrings that are inherited from it.
suppress_warnings = ["ref.term"]
