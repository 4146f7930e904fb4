"""Build a page from templates, styles, scripts and data, under a strict policy.

Only the scripts of voxtile may run: the content-security policy names the SHA-256 of
each script and of the style sheet. ``strict-dynamic`` lets these scripts load
the side files, also in a page opened from a disk, which has no host to name
(CSP Level 3, section 8.2). There is no eval, no network and no form: NiiVue
needs none of them here.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

# NiiVue, byte for byte as it was published.
VIEWER = "niivue.umd.js"
# The scripts of every page, in the order in which they must run, and where those of a page follow.
_FIRST = ("dom.js", "data.js", "csv.js", "plots.js", "case.js", "keys.js", "distribution.js")
_LAST = ("summary.js", "table.js", "address.js", "downloads.js", "start.js")
# The scripts of pages with pictures.
_PICTURES = (
    "loading.js", "errors.js", "sections.js", "planes.js", "contrast.js", "viewer.js", "gallery.js",
    "volumes.js",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PageKind:
    """A kind of page: ``<name>.html`` is its main part, and ``<name>.js`` starts it."""

    name: str
    scripts: tuple[str, ...]  # besides those of every page
    left_out: frozenset[str]  # templates that this page lacks
    held: str  # what of patients the page may show
    tables: str  # files with the same numbers

    def all_scripts(self) -> list[str]:
        """Return the texts of the scripts, in the order in which they run."""
        names = (*_FIRST, *self.scripts, *_LAST, f"{self.name}.js")
        return [resource(name) for name in names]


_REVIEWS = frozenset({"review", "review_count"})
_MASKS = frozenset({"mask_choice"})
REPORT = PageKind(
    "report",
    (*_PICTURES, "review.js", "overview.js"),
    _MASKS,
    "images",
    "report.csv and summary.csv",
)
COMPARISON = PageKind(
    "comparison",
    (*_PICTURES, "masks.js", "paired.js"),
    _REVIEWS,
    "images",
    "comparison.csv and comparison_cases.csv",
)
TRAINING = PageKind(
    "training",
    ("curves.js",),
    _REVIEWS | {"viewer"},
    "data",
    "history.csv, recipe.toml and spec.json",
)


def build_page(
    kind: PageKind, data: Mapping[str, Any], inlined: Mapping[str, str] | None = None
) -> str:
    """Return a page as text.

    `data` has at least the keys that `data.js` names. `inlined` has the side files that become
    part of the page, by the id under which the scripts find them: JSON text for pictures, base64
    for the viewer.
    """
    scripts, style = kind.all_scripts(), resource("style.css")
    allowed = [source_hash(text) for text in scripts]
    blocks = [_data_block("report-data", json_text(data))]
    if inlined:
        allowed.append(source_hash(resource(f"vendor/{VIEWER}")))
        blocks += [_data_block(name, content) for name, content in inlined.items()]
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(allowed)} 'strict-dynamic'",
            f"style-src {source_hash(style)}",
            "img-src data: blob: 'self' file:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    return Template(resource("frame.html")).substitute(
        policy=escape(policy),
        title=escape(f"{data['run']['name']} - voxtile {kind.name}"),
        kind=kind.name,
        held=kind.held,
        tables=kind.tables,
        style=style,
        main=_assembled(kind.name, kind.left_out),
        dialog=_assembled("case", kind.left_out),
        blocks="\n".join(blocks),
        scripts="\n".join(f"<script>{text}</script>" for text in scripts),
    )


def _assembled(name: str, left_out: frozenset[str]) -> str:
    """Return a template with the templates that it names."""
    template = Template(resource(f"{name}.html"))
    parts = template.get_identifiers()
    return template.substitute(
        {part: "" if part in left_out else _assembled(part, left_out) for part in parts}
    )


def json_text(value: Any) -> str:
    """Return JSON that can be inside a script element: no ``<`` can end the element."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _data_block(name: str, content: str) -> str:
    """Return a script element that holds data, which is read but never run."""
    return f'<script type="application/json" id="{escape(name, quote=True)}">{content}</script>'


def resource(name: str) -> str:
    """Return a text file of this package."""
    return files(__package__).joinpath(name).read_bytes().decode()


def source_hash(text: str) -> str:
    """Return the CSP source of an inline element (CSP Level 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
