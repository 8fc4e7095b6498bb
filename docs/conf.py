"""Sphinx builds the site from these pages: `make docs`.

Pages that follow from the code (options, networks, recipes, sensors, cards, the API) are written
into `generated/` first. No page asks another server for anything: furo's styles and scripts are
copied into the site.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from myst_nb.core import render  # noqa: E402
from site_pages import docstrings, links, streams  # noqa: E402
from site_pages.build import write_all  # noqa: E402

from crossband import __version__  # noqa: E402

project = "Crossband"
author = "The Crossband authors"
copyright = "2026, the Crossband authors"
version = release = __version__

extensions = [
    "myst_nb",  # pages in Markdown, and tutorials that are executed
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",  # docstrings in Google's style
    "sphinx_copybutton",
    "sphinx.ext.viewcode",  # links from the reference to the source, as pages of the site
]
root_doc = "index"
exclude_patterns = ["site_pages", "systems.json", "**.ipynb_checkpoints"]
suppress_warnings = [
    "ref.python",  # names of attributes in docstrings are not links to all that have them
]

html_theme = "furo"
html_title = f"Crossband {version}"
html_static_path = ["_static"]
html_css_files = ["crossband.css"]
html_copy_source = False
html_show_sourcelink = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Tutorials run once for each change of theirs; the results are kept beside the site.
nb_execution_mode = os.environ.get("CROSSBAND_TUTORIALS", "cache")
if nb_execution_mode == "off":
    suppress_warnings.append("myst-nb.lexer")  # only a kernel says which language it speaks
nb_execution_timeout = 600
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_merge_streams = True
render.coalesce_streams = streams.merge

viewcode_follow_imported_members = False  # each module is documented where it is defined
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True  # a default is shown as it is written: some are large tables
default_role = "literal"  # docstrings mark code with single backticks
smartquotes = False  # `--sensor` stays two dashes
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes that are documented twice are one


def setup(app: Any) -> None:
    """Write the generated pages, mend links that lead out of `docs/`, and read docstrings."""
    app.connect("builder-inited", lambda app: write_all(Path(app.srcdir)))
    app.connect("source-read", links.read)
    # Before napoleon, which reads the sections.
    app.connect("autodoc-process-docstring", docstrings.convert, priority=400)
