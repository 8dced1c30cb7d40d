"""The documentation site: ``pip install -e ".[docs]" && sphinx-build -W --keep-going docs build/site``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from noisylabels_pl import __version__

project = "noisylabels_pl"
author = "the authors of noisylabels_pl"
copyright = "Apache-2.0"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "mathml",
    "mermaid",
    "repository_links",
]
exclude_patterns = ["_ext", "_pages"]

# Inside links: Markdown links to pages and headings, and every name in a docstring that this library documents.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!noisylabels_pl\.).*")]
nitpick_ignore = [("py:class", "noisylabels_pl.core.distributed.Result")]  # a type variable
suppress_warnings = ["myst.header"]  # pages that are also read in the repository skip a level

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False  # overridden hooks are documented by Lightning
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
add_module_names = False
napoleon_use_ivar = True

# Everything comes with the site: no script or font from elsewhere.
html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"noisylabels_pl {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
