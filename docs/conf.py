"""How `make docs` builds the documentation. Pages are Markdown; reading them fetches nothing from elsewhere."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from django_eventstore import __version__

project = "django_eventstore"
author = "the django_eventstore authors"
copyright = "2026, the django_eventstore authors"
release = __version__
version = ".".join(__version__.split(".")[:2])

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
# Headings can be linked to from other pages, three levels deep.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

html_theme = "furo"
html_title = f"django_eventstore {release}"
