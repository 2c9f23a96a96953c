"""Configuration of the documentation; `make docs` builds it."""

import sys
from pathlib import Path

from nipype_quicksilver import __version__

sys.path.insert(0, str(Path(__file__).parent))

project = "nipype-quicksilver"
author = "The nipype-quicksilver developers"
copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "workflow_graphs",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"nipype-quicksilver {release}"

myst_enable_extensions = ["amsmath", "deflist", "dollarmath"]
myst_heading_anchors = 3

napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # otherwise attributes of dataclasses are described twice
autodoc_typehints = "none"  # the docstrings name the types
autodoc_member_order = "bysource"
suppress_warnings = ["ref.python"]  # several classes have the same name
# Names are documented where they are defined, not again in packages that export them.
autodoc_default_options = {"ignore-module-all": True}

apidoc_modules = [
    {
        "path": "../nipype_quicksilver",
        "destination": "api",
        "exclude_patterns": ["**/cli/**"],
        "separate_modules": True,
        "module_first": True,
    },
]
