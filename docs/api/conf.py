"""Sphinx: the API reference, made of docstrings. ``python -m sphinx -W -b html docs/api site/api``."""

from __future__ import annotations

import shutil
from pathlib import Path

from sphinx.application import Sphinx

import refimpl

_PAGES = Path(__file__).parent / "_autosummary"
# A page that a broken-off build made for a module that is gone would be a warning.
shutil.rmtree(_PAGES, ignore_errors=True)

project = "refimpl"
author = "the refimpl authors"
version = release = refimpl.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"refimpl {release}: API reference"
html_show_sphinx = False

# Thousands of methods in every page's navigation take most of a build, and nobody finds anything among them.
toc_object_entries = False

# A page per module; docs/api/_templates/module.rst decides which modules (not those written by protoc).
autosummary_generate = True
autosummary_ignore_module_all = False
templates_path = ["_templates"]

# `type` and `list` in a signature are the builtins, though attributes and methods of ours have these names too.
suppress_warnings = ["ref.python"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "undoc-members": False, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # an attribute described in the class and typed in its body is one thing, not two


def setup(app: Sphinx) -> None:
    """Leave nothing among the sources: autosummary can write its pages nowhere else."""
    app.connect("build-finished", lambda _app, _error: shutil.rmtree(_PAGES, ignore_errors=True))
