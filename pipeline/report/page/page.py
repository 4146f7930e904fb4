"""Put the page together: template, styles, scripts and data, under a strict policy.

Nothing may run but what was put here: the content-security policy names the
SHA-256 of each script and of the style sheet. ``strict-dynamic`` lets these
scripts load the side files, which works where there is no host to name, in a
page opened from a disk (CSP Level 3, section 8.2). No eval, no network, no
form: NiiVue needs none of them for what it is given here.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

# In the order they must run: each uses what stands before it.
SCRIPTS = (
    "dom.js",
    "data.js",
    "loading.js",
    "sections.js",
    "plots.js",
    "viewer.js",
    "case.js",
    "overview.js",
    "gallery.js",
    "table.js",
    "start.js",
)
VIEWER = "niivue.umd.js"


def build_page(data: Mapping[str, Any], inlined: Mapping[str, str] | None = None) -> str:
    """Return the page as text.

    Parameters
    ----------
    data : mapping
        From `cohort_data`, with what is known of pictures.
    inlined : mapping of str to str, optional
        Content that would lie in side files, by the id under which the
        scripts look for it: JSON text for pictures, base64 for the viewer.
    """
    scripts = [_resource(name) for name in SCRIPTS]
    style = _resource("style.css")
    allowed = [_hash(text) for text in scripts]
    blocks = [_data_block("report-data", json_text(data))]
    if inlined:
        allowed.append(_hash(viewer_script()))
        blocks += [_data_block(name, content) for name, content in inlined.items()]
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(allowed)} 'strict-dynamic'",
            f"style-src {_hash(style)}",
            "img-src data: blob: 'self' file:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    run = data["run"]
    return Template(_resource("page.html")).substitute(
        policy=escape(policy),
        title=escape(f"{run['name']} - voxtile report"),
        style=style,
        blocks="\n".join(blocks),
        scripts="\n".join(f"<script>{text}</script>" for text in scripts),
    )


def viewer_script() -> str:
    """Return NiiVue, byte for byte as it was published."""
    return files(__package__).joinpath("vendor", VIEWER).read_bytes().decode()


def json_text(value: Any) -> str:
    """Return JSON that can stand inside a script element: no ``<`` ends it early."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _data_block(name: str, content: str) -> str:
    """Return a script element that is never run, for scripts to read."""
    return f'<script type="application/json" id="{escape(name, quote=True)}">{content}</script>'


def _resource(name: str) -> str:
    """Return a text file of this package."""
    return files(__package__).joinpath(name).read_bytes().decode()


def _hash(text: str) -> str:
    """Return the CSP source of an inline element (CSP Level 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
