"""Build the page from template, styles, scripts and data, under a strict policy.

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
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

# The scripts, in the order in which they must run: each uses the scripts before it.
SCRIPTS = (
    "dom.js", "data.js", "loading.js", "errors.js", "sections.js", "plots.js", "planes.js",
    "contrast.js", "viewer.js", "case.js", "review.js", "keys.js", "distribution.js", "volumes.js",
    "overview.js", "gallery.js", "table.js", "address.js", "downloads.js",
    "start.js",
)  # fmt: skip
# NiiVue, byte for byte as it was published.
VIEWER = "niivue.umd.js"


def build_page(data: Mapping[str, Any], inlined: Mapping[str, str] | None = None) -> str:
    """Return the page as text.

    `data` is from `cohort_data`, with the facts about pictures added. `inlined` has the side files
    that become part of the page, by the id under which the scripts find them: JSON text for
    pictures, base64 for the viewer.
    """
    scripts = [resource(name) for name in SCRIPTS]
    style = resource("style.css")
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
    run = data["run"]
    return Template(resource("page.html")).substitute(
        policy=escape(policy),
        title=escape(f"{run['name']} - voxtile report"),
        style=style,
        blocks="\n".join(blocks),
        scripts="\n".join(f"<script>{text}</script>" for text in scripts),
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
