"""What every page keeps, in a real browser: sizes, contrast, names, downloads."""

import csv
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import canvas_pixels, errors_of, share_of, wait_for
from commands import invoke
from phantoms import ball, make_bundle, threshold_model

from voxtile.batch.drive import run_manifest
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.report.error_map import ERRORS
from voxtile.report.page import write_page
from voxtile.training.bundle.training_page import write_training_page
from voxtile.writing.nifti import write_mask, write_volume

SHIPPED = Path(__file__).parents[3] / "models/hippocampus"
KINDS = ("report", "comparison", "training")
# The worst contrast that WCAG 2.1 (1.4.3) allows: text, and large text.
LEAST, LEAST_LARGE = 4.5, 3.0
SMALL = """
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = new Set();
  while (words.nextNode()) {
    const one = words.currentNode.parentElement;
    if (!words.currentNode.textContent.trim() || !one.checkVisibility()) continue;
    const drawn = one.ownerSVGElement ? one.getScreenCTM() : { a: 1, b: 0 };
    const scale = Math.hypot(drawn.a, drawn.b); // text may be turned
    const size = parseFloat(getComputedStyle(one).fontSize) * scale;
    if (size < 10.99) found.add(`${size} ${one.className?.baseVal ?? one.className}`);
  }
  return [...found];
"""
CUT = """
  const found = [];
  for (const text of document.querySelectorAll("svg.chart text")) {
    if (!text.checkVisibility() || text.closest("#distribution, .legend")) continue;
    const one = text.getBoundingClientRect();
    const frames = [text.ownerSVGElement, text.closest(".plot")].filter(Boolean);
    for (const frame of frames.map((frame) => frame.getBoundingClientRect())) {
      const out = [frame.left - one.left, one.right - frame.right, one.bottom - frame.bottom];
      if (Math.max(...out) > 1) found.push([text.textContent, ...out]);
    }
  }
  return found;
"""
PALE = """
  const parse = (color) => {
    const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = (top, below) => [0, 1, 2].map((n) => top[n] * top[3] + below[n] * (1 - top[3]));
  const light = (color) => color.map((one) => one / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const ground = (one) => {
    const layers = [];
    for (let at = one; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      layers.push(color);
      if (color[3] === 1) break;
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = new Map();
  while (words.nextNode()) {
    const one = words.currentNode.parentElement;
    const text = words.currentNode.textContent.trim();
    const isExempt = one.closest(":disabled, .hidden, .side-letter");
    if (!text || !one.checkVisibility() || isExempt) continue;
    const style = getComputedStyle(one);
    const below = ground(one);
    const color = parse(one.ownerSVGElement ? style.fill : style.color);
    const [a, b] = [light(over(color, below)), light(below)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const least = isLarge ? arguments[1] : arguments[0];
    if (ratio < least) found.set(`${one.tagName} ${one.className}`, [text, ratio]);
  }
  return [...found];
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each kind: a run with a broken case, two runs compared, a model."""
    folder = tmp_path_factory.mktemp("pages")
    image, truth = ball()
    rows = [["case_id", "image", "label", "site"], ["broken", "broken.nii.gz", "", "A"]]
    (folder / "broken.nii.gz").write_bytes(b"")
    for number in range(3):
        write_volume(folder / f"i{number}.nii.gz", image)
        astray = truth.with_array(np.roll(truth.array, number, axis=0))
        write_mask(folder / f"l{number}.nii.gz", astray)
        rows.append([f"c{number}", f"i{number}.nii.gz", f"l{number}.nii.gz", "AB"[number % 2]])
    with (folder / "cases.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)

    def lower_half(tiles: np.ndarray) -> np.ndarray:
        found = threshold_model(tiles).copy()
        found[:, : tiles.shape[1] // 2] = (1, 0)
        return found

    for name, model in (("old", threshold_model), ("new", lower_half)):
        done = run_manifest(folder / "cases.csv", make_bundle(), folder / name, models=[model])
        write_page(folder / name, done.reports, manifest=folder / "cases.csv", cases="all")
    words = ("--manifest", folder / "cases.csv", "--out", folder / "both")
    code, said = invoke("compare", folder / "old", folder / "new", *words)
    assert code == 0, said
    (folder / "model").mkdir()
    for name in ("history.csv", "recipe.toml"):
        shutil.copy(SHIPPED / name, folder / "model" / name)
    training = write_training_page(Bundle(folder / "model", load_bundle(SHIPPED).spec))
    return {
        "report": folder / "new/report.html",
        "comparison": folder / "both/comparison.html",
        "training": training,
    }


def show(browser: Any, path: Path, address: str = "") -> None:
    """Open a page, and wait until it and its cards are drawn."""
    browser.get("about:blank")
    errors_of(browser)
    browser.get(path.as_uri() + address)
    ready = (
        "return document.body.dataset.ready && (!byId('gallery') || byId('gallery').dataset.cards)"
    )
    wait_for(lambda: browser.execute_script(ready), "the page")


def open_case(browser: Any, kind: str) -> None:
    """Open a case of a page, with the viewer if the page has one."""
    case_id = browser.execute_script("return report.cases.find((one) => one.pictures ?? true).id")
    browser.execute_script("openCase(arguments[0])", case_id)
    if kind != "training":
        shown = "return document.body.dataset.shown === arguments[0]"
        wait_for(lambda: browser.execute_script(shown, case_id), "the viewer")


@pytest.mark.parametrize("width", [390, 1280, 1400])
@pytest.mark.parametrize("kind", KINDS)
def test_no_text_is_small_or_cut_off_and_nothing_is_wider_than_the_window(
    browser: Any, pages: dict[str, Path], kind: str, width: int
) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        show(browser, pages[kind])
        wide = "return document.documentElement.scrollWidth"
        assert browser.execute_script(SMALL) == []
        assert browser.execute_script(CUT) == []
        assert browser.execute_script(wide) <= width
        open_case(browser, kind)
        assert browser.execute_script(SMALL) == []
        assert browser.execute_script(wide) <= width
        assert errors_of(browser) == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_text_has_the_contrast_of_level_aa(
    browser: Any, pages: dict[str, Path], kind: str, theme: str
) -> None:
    show(browser, pages[kind])
    browser.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
    assert browser.execute_script(PALE, LEAST, LEAST_LARGE) == []
    open_case(browser, kind)
    assert browser.execute_script(PALE, LEAST, LEAST_LARGE) == []
    # The check sees what is wrong.
    browser.execute_script(
        "byId('case-title').setAttribute('id', 'x'); const bad = document"
        ".querySelector('dialog h2'); bad.style.color = 'rgb(128, 128, 128)';"
        "bad.style.backgroundColor = 'rgb(140, 140, 140)'"
    )
    assert len(browser.execute_script(PALE, LEAST, LEAST_LARGE)) == 1


def tree(browser: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """Role, name and properties of every element that a screen reader meets, in order."""
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    found = []
    for node in nodes:
        if not node["ignored"]:
            facts = {one["name"]: one["value"].get("value") for one in node.get("properties", ())}
            name = node.get("name", {}).get("value", "")
            found.append((node["role"]["value"], name, facts))
    return found


CONTROLS = {
    "button",
    "combobox",
    "textbox",
    "searchbox",
    "slider",
    "checkbox",
    "spinbutton",
    "link",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_screen_reader_meets_landmarks_headings_and_names(
    browser: Any, pages: dict[str, Path], kind: str
) -> None:
    show(browser, pages[kind])
    browser.execute_cdp_cmd("Accessibility.enable", {})
    found = tree(browser)
    roles = Counter(role for role, _, _ in found)
    assert [roles[one] for one in ("main", "banner", "contentinfo", "search")] == [1, 1, 1, 1]
    levels = [facts["level"] for role, _, facts in found if role == "heading"]
    assert levels[0] == 1
    assert max(np.diff(levels)) <= 1
    assert levels.count(1) == 1
    named = {*CONTROLS, "region", "image", "search", "form", "heading"}
    assert [
        (role, facts) for role, name, facts in found if role in named and not name.strip()
    ] == []
    regions = [name for role, name, _ in found if role == "region"]
    headers = browser.execute_script(
        "return [...document.querySelectorAll('table')].filter((one) => one.checkVisibility())"
        ".map((one) => one.querySelectorAll('th:not([scope])').length)"
    )
    assert regions
    assert not any(headers)  # every header says what it heads
    assert roles["columnheader"] > 0

    open_case(browser, kind)
    found = tree(browser)  # only the open case: the page behind it cannot be reached
    roles = Counter(role for role, _, _ in found)
    assert roles["dialog"] == 1
    assert roles["banner"] == 0
    assert [role for role, name, _ in found if role in CONTROLS and not name.strip()] == []
    levels = [facts["level"] for role, _, facts in found if role == "heading"]
    assert levels[0] == 2
    assert max(np.diff(levels)) <= 1
    if kind != "training":  # where the crosshair is, is said after each step
        assert browser.execute_script("return byId('location').role ?? ''") == "status"
        assert " mm" in browser.execute_script("return byId('location').textContent")
    assert errors_of(browser) == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_plot_and_table_is_saved(browser: Any, pages: dict[str, Path], kind: str) -> None:
    show(browser, pages[kind])
    start = "globalThis.saved = []; download = (name, blob) => saved.push([name, blob.size]);"
    click = "const all = [...document.querySelectorAll('[data-download] button')];"
    browser.execute_script(start + click + "all.forEach((one) => one.click())")
    count = "return document.querySelectorAll('[data-download] button').length"
    many = browser.execute_script(count)
    wait_for(lambda: browser.execute_script("return saved.length") == many, "the files")
    saved = browser.execute_script("return saved")
    assert min(size for _, size in saved) > 20
    plots = {"report": 2, "comparison": 3, "training": 2}[kind]
    assert Counter(name.rpartition(".")[2] for name, _ in saved)["svg"] == plots
    names = [name for name, _ in saved]
    assert len({*names}) == many
    assert errors_of(browser) == []


def test_the_masks_of_two_runs_are_seen_in_one_viewer(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["comparison"])
    assert browser.execute_script("return byId('summary').innerText").count("HD95 (mm)") == 1
    open_case(browser, "comparison")
    browser.execute_script(
        "byId('opacity-reference').value = 0;byId('opacity-prediction').value = 100; drawOverlays()"
    )
    red = "#e6194b"
    whole = share_of(canvas_pixels(browser), red)
    browser.execute_script("nextMask()")
    half = share_of(canvas_pixels(browser), red)
    assert 0.2 * whole < half < 0.8 * whole
    browser.execute_script("nextMask()")
    pixels = canvas_pixels(browser)
    (_, both), (_, only_new), (_, only_old), _ = ERRORS
    assert share_of(pixels, red) == share_of(pixels, only_new) == 0
    assert share_of(pixels, both) > 0.01
    assert share_of(pixels, only_old) > 0.01
    said = browser.execute_script("return byId('mask-key').innerText")
    assert "A and B" in said and "only A" in said
    browser.execute_script("nextMask()")
    assert browser.execute_script("return byId('mask-key').checkVisibility()") is False
    # Each run has its own row of pictures, and the case its own page.
    titles = (
        "return [...document.querySelectorAll('#gallery .runs')[0].children]"
        ".map((one) => one.innerText.split('\\n')[0])"
    )
    assert browser.execute_script(titles) == ["A: old", "B: new"]
    link = browser.execute_script("return document.querySelector('.links li:last-child a').href")
    case_id = browser.execute_script("return open.one.id")
    browser.get(link)
    wait_for(lambda: browser.execute_script("return document.body.dataset.ready"), "the page")
    assert browser.execute_script("return [open.one.id, report.run.name]") == [case_id, "new"]


def test_the_gallery_shows_reviews_at_once(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["report"])
    browser.execute_script("localStorage.clear()")
    show(browser, pages["report"])
    said = "return document.querySelector('#gallery [data-review-of=c1]').textContent"
    assert browser.execute_script(said) == ""
    browser.execute_script(
        "byId('reviewer').value = 'AB'; openCase('c1'); decide('rejected');"
        "byId('note').value = 'half is missing'; byId('note').dispatchEvent(new Event('input'))"
    )
    assert browser.execute_script(said) == "rejectedAB: half is missing"
    show(browser, pages["report"])
    assert browser.execute_script(said) == "rejectedAB: half is missing"
    browser.execute_script("localStorage.clear()")
