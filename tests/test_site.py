"""The documentation site: complete, without dead links, with a search that needs no server."""

import inspect
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from chromium import wait_for

import voxtile

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.xdist_group("site")  # it is built once
SITE = ROOT / "docs/site"


def public_names() -> Iterator[str]:
    """The public names of voxtile and of its rooms."""
    for path in [ROOT / "pipeline", *(ROOT / "pipeline").glob("*/")]:
        name = ".".join(["voxtile", *path.relative_to(ROOT / "pipeline").parts])
        if (path / "__init__.py").is_file():
            yield from (f"{name}.{one}" for one in getattr(import_module(name), "__all__", ()))


def types_within(hint: Any) -> Iterator[type]:
    """The classes of voxtile in an annotation."""
    if inspect.isclass(hint) and hint.__module__.startswith("voxtile"):
        yield hint
    for one in typing.get_args(hint):
        yield from types_within(one)


def described() -> dict[str, Any]:
    """The names on the page about Python, and what they are."""
    names = re.findall(r"^\.\. auto\w+:: (\S+)$", (SITE / "api.rst").read_text(), re.MULTILINE)
    assert len(names) == len(set(names))
    return {
        name: getattr(import_module(name.rpartition(".")[0]), name.rpartition(".")[2])
        for name in names
    }


def test_the_page_about_python_has_every_public_name() -> None:
    assert {*public_names()} - {*described()} == set()


def test_what_public_functions_return_is_on_the_page_too() -> None:
    values = described().values()
    types = {one for one in values if inspect.isclass(one)}
    for one in [*filter(inspect.isfunction, values), *filter(is_dataclass, types)]:
        hints = inspect.get_annotations(one)
        if inspect.isfunction(one):
            hints = {"return": hints.get("return")}
        named = {name: {*types_within(hint)} for name, hint in hints.items() if name[0] != "_"}
        assert {name: more for name, more in named.items() if more - types} == {}, one


def links_of(page: Path) -> Iterator[tuple[Path, str]]:
    """The local files that a page refers to, and the anchors in them."""
    for tag, attributes in tags_of(page):
        target = attributes.get("src") if tag in ("img", "script") else attributes.get("href")
        if target and not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            file = (page.parent / unquote(path.partition("?")[0])).resolve() if path else page
            yield file, unquote(anchor)


@cache
def tags_of(page: Path) -> list[tuple[str, dict[str, str | None]]]:
    """The tags of a page, with their attributes."""
    found: list[tuple[str, dict[str, str | None]]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.append((tag, dict(attributes)))
    parser.feed(page.read_text())
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `scripts/site` builds it; skip without its packages."""
    for name in ("sphinx", "myst_parser", "numpydoc", "furo", "sphinx_copybutton"):
        pytest.importorskip(name, reason="the extra docs is not installed (scripts/site)")
    line = re.search(r"-m (sphinx .*) build/site", (ROOT / "scripts/site").read_text())
    assert line is not None
    out = tmp_path_factory.mktemp("site")
    words = line[1].replace('"$@"', "").replace("build/doctrees", str(out / "doctrees")).split()
    done = subprocess.run(
        [sys.executable, "-m", *words, str(out / "html")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out / "html"


@pytest.mark.slow
def test_no_link_of_the_site_is_dead(site: Path) -> None:
    pages = [*site.rglob("*.html")]
    assert len(pages) > 30
    dead = [
        (page.relative_to(site), file, anchor)
        for page in pages
        for file, anchor in links_of(page)
        if not file.exists()
        or (anchor and file.suffix == ".html" and anchor not in anchors_of(file))
    ]
    assert dead == []


@cache
def anchors_of(page: Path) -> set[str | None]:
    """The places in a page that links can name."""
    return {attributes.get(key) for _, attributes in tags_of(page) for key in ("id", "name")}


@pytest.mark.slow
def test_each_command_and_function_has_a_place_on_the_site(site: Path) -> None:
    anchors = anchors_of(site / "docs/site/api.html")
    assert {f"voxtile.{name}" for name in voxtile.__all__} <= anchors
    assert {"voxtile-run", "voxtile-models-verify"} <= anchors_of(site / "docs/site/commands.html")
    assert 'content="0; url=docs/README.html"' in (site / "index.html").read_text()


@pytest.mark.slow
def test_the_search_of_the_site_needs_no_server(site: Path, browser: Any) -> None:
    browser.get(f"{(site / 'search.html').as_uri()}?q=shard")
    # The page adds results one by one.
    wait_for(
        lambda: browser.find_elements(
            "css selector", "#search-results li a[href^='docs/clusters.html']"
        ),
        "the page about clusters among the results",
    )
