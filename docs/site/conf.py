"""Settings of the documentation site; `scripts/site` builds it.

The pages are the Markdown files of the repository, which can also be read without a site. The map
of them, docs/README.md, is the first page, and its headings and links are the navigation.
"""

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pygments.lexers.special import TextLexer

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))

project = "voxtile"
html_title = "voxtile"
copyright = "the contributors of voxtile"
extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "sphinx_copybutton", "generated"]
root_doc = "docs/README"
include_patterns = [
    "*.md",
    "docs/*.md",
    "docs/site/*.rst",
    "manifests/README.md",
    "models/*/README.md",
]
exclude_patterns = [".*", "build", "dist", "pipeline", "tests"]  # not searched for pages
html_theme = "furo"
html_extra_path = ["index.html"]  # leads to the map
html_show_sourcelink = False
smartquotes = False  # they would change --option
myst_heading_anchors = 4  # links such as performance.md#memory, as a forge makes them
copybutton_exclude = ".gp, .go"  # prompts and answers are not copied
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "exclude-members": "model_config"}
numpydoc_show_class_members = False  # autodoc shows them


def toctrees(text: str) -> str:
    """Return a list of pages for the navigation, for each part of the map."""
    blocks = []
    for part in re.split(r"^##? ", text, flags=re.MULTILINE)[1:]:
        links = re.findall(r"\]\(([^)#]+)\.(?:md|rst)\)", part)
        pages = "\n".join(f"/{(ROOT / 'docs' / one).resolve().relative_to(ROOT)}" for one in links)
        caption = part.partition("\n")[0]
        blocks.append(f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n{pages}\n```\n")
    return "".join(blocks)


def add_navigation(app: Any, page: str, source: list[str]) -> None:
    """Add the navigation to the map."""
    if page == root_doc:
        source[0] += toctrees(source[0])


def plain_signature(
    app: Any, what: str, name: str, value: Any, options: Any, signature: str, returned: str
) -> tuple[str, str] | None:
    """Return the fields of a pydantic model without their limits, which would fill a page."""
    if inspect.isclass(value) and issubclass(value, BaseModel):
        return "(*, " + ", ".join(value.model_fields) + ")", ""
    return None


def setup(app: Any) -> None:
    """Connect the functions above to the stages of the build."""
    app.add_lexer("csv", TextLexer)
    app.connect("source-read", add_navigation)
    app.connect("autodoc-process-signature", plain_signature)
