"""Settings of the documentation site; `make docs` builds it with warnings as errors."""

from __future__ import annotations

import sys
from pathlib import Path

import napari_cellenhance

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "napari-cellenhance"
author = "the napari-cellenhance developers"
copyright = author
release = napari_cellenhance.__version__
version = release.split("+")[0]

extensions = [
    "docstrings",
    "model_cards",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
]
root_doc = "index"
templates_path = ["_templates"]
exclude_patterns = ["_build"]
nitpicky = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc sections say types with their units and ranges
numpydoc_show_class_members = False

copybutton_prompt_text = r">>> |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = "napari-cellenhance"
html_show_sphinx = False
