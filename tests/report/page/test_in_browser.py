"""The page in a real browser: what is seen, what can be done, what cannot happen."""

import base64
import csv
import hashlib
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from chromium import canvas_pixels, errors_of, share_of, wait_for
from commands import invoke
from phantoms import ball, make_bundle

from voxtile.batch.drive import run_manifest
from voxtile.errors import Notice
from voxtile.manifest.review import read_review
from voxtile.models.spec import Label
from voxtile.phantoms.ellipsoids import Ellipsoid, centred_affine, draw
from voxtile.report.error_map import ERRORS
from voxtile.report.page import write_page
from voxtile.report.page.page import VIEWER, resource
from voxtile.report.tables import write_reports
from voxtile.run.job import RunSettings
from voxtile.run_folder.case_report import CaseReport
from voxtile.run_folder.fingerprint import content_hash
from voxtile.scoring.rows import LabelRow
from voxtile.writing.nifti import write_mask, write_volume

BALL, CORE = "#e69f00", "#56b4e9"
LABELS = (Label(value=1, name="ball", color=BALL), Label(value=2, name="core", color=CORE))
NASTY = "</script><script>window.hacked=1</script><img src=x onerror=hacked=1>"


def two_thresholds(tiles: np.ndarray) -> np.ndarray:
    """Say ball above 50 and core above 150: exact on the phantom."""
    level = tiles[..., 0]
    return np.stack([level <= 50, (level > 50) & (level <= 150), level > 150], -1).astype("f4")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a manifest and a run: eight cases, worse and worse, and a broken one."""
    folder = tmp_path_factory.mktemp("cohort")
    rows = []
    for number in range(8):
        affine = centred_affine((26, 24, 20), (1.2, 1.3, 2.0), axes="LPS" if number % 2 else "RAS")
        solids = [
            Ellipsoid((0, 0, 0), (11, 9, 12), 100, label=1),
            Ellipsoid((2, 0, 0), (5, 4, 5), 200, label=2),
        ]
        image, truth = draw((26, 24, 20), affine, solids, noise=5, seed=number)
        # The model is exact, so it is the reference that goes astray.
        astray = truth.with_array(np.roll(truth.array, number, axis=0))
        write_volume(folder / f"c{number}.nii.gz", image)
        write_mask(folder / f"l{number}.nii.gz", astray)
        rows.append([f"case_{number}", f"c{number}.nii.gz", f"l{number}.nii.gz", "AB"[number % 2]])
    (folder / "broken.nii.gz").write_bytes(b"")
    rows.append(["broken", "broken.nii.gz", "", NASTY])
    with (folder / "cases.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["case_id", "image", "label", "<b>site</b>"], *rows])
    bundle = make_bundle(labels=LABELS)
    result = run_manifest(
        folder / "cases.csv",
        bundle,
        folder / "run",
        models=[two_thresholds],
        settings=RunSettings(),
    )
    write_page(folder / "run", result.reports, manifest=folder / "cases.csv", cases="worst:6")
    return folder


@pytest.fixture
def page(browser: Any, cohort: Path) -> Any:
    """The page of the cohort, just opened, that must not have complained by the end."""
    show(browser, cohort / "run/report.html")
    yield browser
    assert errors_of(browser) == []


@pytest.fixture
def viewed(browser: Any, cohort: Path) -> Any:
    """The page with the viewer of case_7; left open between the tests that only look."""
    shown = "return document.body.dataset.shown === 'case_7' && byId('case').open"
    if not browser.execute_script(shown):
        show(browser, cohort / "run/report.html")
        open_viewer(browser, "case_7")
    yield browser
    assert errors_of(browser) == []


def show(browser: Any, path: Path) -> None:
    browser.get("about:blank")  # a fresh page, also where only the fragment would change
    errors_of(browser)
    browser.get(path.as_uri())
    wait_for(lambda: browser.execute_script("return document.body.dataset.ready"), "the page")


def ids_shown(browser: Any) -> list[str]:
    script = "return [...document.querySelectorAll('#table tbody tr')].map(r => r.dataset.case)"
    return browser.execute_script(script)


def open_viewer(browser: Any, case_id: str) -> None:
    browser.execute_script(f"openCase('{case_id}')")
    script = "return document.body.dataset.shown"
    wait_for(lambda: browser.execute_script(script) == case_id, f"the viewer of {case_id}")


def type_into(browser: Any, element_id: str, text: str) -> None:
    browser.execute_script(
        "const box = byId(arguments[0]); box.value = arguments[1];"
        "box.dispatchEvent(new Event(box.tagName === 'SELECT' ? 'change' : 'input'))",
        element_id,
        text,
    )


def test_the_page_opens_from_a_disk_with_the_worst_cases_first(page: Any) -> None:
    assert ids_shown(page)[:3] == ["broken", "case_7", "case_6"]
    text = page.execute_script("return document.body.innerText")
    assert "Patient images." in text
    assert "empty_file" in text
    cards = "return byId('gallery').dataset.cards"
    wait_for(lambda: page.execute_script(cards), "the gallery")
    assert (
        page.execute_script("return document.querySelectorAll('#gallery .section svg').length")
        >= 18
    )
    loaded = "return performance.getEntriesByType('resource').map(one => one.name)"
    assert all(name.startswith(("file:", "data:")) for name in page.execute_script(loaded))


def test_the_viewer_shows_voxels_at_their_position_in_the_world(viewed: Any) -> None:
    # The crosshair begins in the middle of the prediction: the middle of the world in this phantom.
    said = viewed.execute_script("return byId('location').textContent")
    place_mm = [float(number) for number in re.findall(r"-?\d+\.\d", said)[:3]]
    assert np.linalg.norm(place_mm) < 2.0
    assert "prediction: core" in said or "prediction: ball" in said


def test_the_reference_is_an_outline_in_every_visible_plane(viewed: Any) -> None:
    count = """
      const { img, filled, hdr } = viewer.overlays.reference;
      const [columns, rows, slices] = hdr.dims.slice(1, 4);
      const voxel = crosshairVoxel();
      return [0, 1, 2].map((axis) => {
        const counts = [0, 0];
        filled.forEach((value, index) => {
          const at = [index % columns, Math.floor(index / columns) % rows,
            Math.floor(index / (columns * rows))];
          if (at[axis] !== voxel[axis] || value === 0) return;
          counts[0]++;
          if (img[index]) counts[1]++;
        });
        return counts;
      });
    """
    there = "return viewer.outlined === String(crosshairVoxel())"
    move = "byId('slice-1').value++; byId('slice-1').dispatchEvent(new Event('input'))"
    for _ in range(2):
        for whole, drawn in viewed.execute_script(count):
            assert 0.2 * whole < drawn < 0.8 * whole
        viewed.execute_script(move)
        wait_for(lambda: viewed.execute_script(there), "new outlines")


def test_the_canvas_shows_each_mask_in_its_colours(viewed: Any) -> None:
    for kind, other in (("prediction", "reference"), ("reference", "prediction")):
        viewed.execute_script(
            f"byId('outline').checked = false; byId('opacity-{other}').value = 0;"
            f"byId('opacity-{kind}').value = 100; drawOverlays()"
        )
        pixels = canvas_pixels(viewed)
        assert share_of(pixels, BALL) > 0.02, kind
        assert share_of(pixels, CORE) > 0.003, kind
    viewed.execute_script("document.querySelectorAll('.legend input')[1].click()")
    hidden = canvas_pixels(viewed)
    assert share_of(hidden, BALL) > 0.02
    assert share_of(hidden, CORE) == 0


def test_errors_are_seen_in_the_viewer_and_in_the_sections(page: Any) -> None:
    open_viewer(page, "case_7")
    page.execute_script("byId('opacity-prediction').value = 100; showErrors(true)")
    pixels = canvas_pixels(page)
    for name, color in ERRORS[:3]:
        assert share_of(pixels, color) > 0.005, name
    assert share_of(pixels, BALL) == 0
    counts = """
      const counts = [0, 0, 0, 0, 0];
      viewer.overlays.prediction.img.forEach((error) => counts[error]++);
      return counts;
    """
    hits, extra, missed, other = page.execute_script(counts)[1:]
    one = "const one = report.cases.find((one) => one.id === 'case_7');"
    voxels = (
        one
        + "return ['voxels_pred', 'voxels_ref'].map((key) => columnsOf(key)"
        + (".reduce((sum, column) => sum + column.get(one), 0))")
    )
    assert page.execute_script(voxels) == [hits + extra + other, hits + missed + other]
    # A hidden label is background: what is left are the errors of the other one.
    page.execute_script("document.querySelectorAll('.legend input')[0].click()")
    true = one + "return columnsOf('tp')[1].get(one)"
    assert page.execute_script(counts)[1] == page.execute_script(true)
    page.execute_script("document.querySelectorAll('.legend input')[0].click()")
    shown = """
      const seen = (name) => [...document.querySelectorAll(`#case-sections ${name}`)]
        .filter((one) => getComputedStyle(one).display !== 'none').length;
      return [seen('.wrong'), seen('.contour')];
    """
    wait_for(lambda: page.execute_script(shown) == [3, 0], "errors in the sections")
    page.execute_script("showErrors(false)")
    errors, contours = page.execute_script(shown)
    assert errors == 0
    assert contours >= 6


def test_an_open_case_is_walked_with_the_arrow_keys(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    def press(key: str) -> None:
        page.switch_to.active_element.send_keys(key)

    open_viewer(page, "case_7")
    assert page.execute_script("return document.activeElement.id") == "canvas"
    axial = "return [Number(byId('slice-2').value), crosshairVoxel()[2] + 1]"
    first = page.execute_script(axial)[0]
    press(Keys.ARROW_UP)
    assert page.execute_script(axial) == [first + 1, first + 1]
    press("e")
    assert page.execute_script("return errorsShown()") is True
    press("e")
    press(Keys.ARROW_RIGHT)
    shown = "return document.body.dataset.shown"
    wait_for(lambda: page.execute_script(shown) == "case_6", "the next case")
    page.execute_script("byId('level').focus()")
    press(Keys.ARROW_RIGHT)  # a slider keeps its keys
    assert page.execute_script("return byId('case-title').textContent") == "case_6"
    assert page.execute_script("return viewer.nv.volumes[0].cal_max") > 255


@pytest.mark.parametrize("size_mm", [(1, 1, 1), (1, 1, 4), (3, 1, 1), (1, 3, 1)])
@pytest.mark.parametrize("canvas", [(830, 500), (340, 500)])
def test_the_three_planes_fill_the_canvas(browser: Any, cohort: Path, size_mm, canvas) -> None:
    if not browser.current_url.endswith("report.html"):
        show(browser, cohort / "run/report.html")
    x, y, z = size_mm
    width, height = canvas
    tiles = browser.execute_script("return bestTiles(...arguments)", width, height, [x, y, z])
    filled = 0.0
    for (left, top, w, h), (across, up) in zip(tiles, [(x, y), (x, z), (y, z)], strict=True):
        assert left + w <= 1.001
        assert top + h <= 1.001
        scale = min(w * width / across, h * height / up)
        filled += scale**2 * across * up
    assert filled > 0.5 * width * height


def test_a_review_by_keyboard_is_kept_exported_and_shown_again(
    browser: Any, cohort: Path, tmp_path: Path
) -> None:
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> None:
        for key in keys:
            browser.switch_to.active_element.send_keys(key)

    run = cohort / "run"
    show(browser, run / "report.html")
    browser.execute_script("localStorage.clear()")
    show(browser, run / "report.html")
    browser.execute_script("byId('reviewer').value = 'AB'; openCase('case_0')")
    press("a")
    browser.execute_script("openCase('case_1')")
    press("r", "n", '=SUM(A1), "edge"', Keys.ENTER, "e")  # after Enter, keys are keys again
    assert browser.execute_script("return errorsShown()") is True
    browser.execute_script("openCase('case_2')")
    press("r", "r")  # twice: taken back
    show(browser, run / "report.html")  # kept
    decisions = "return report.cases.map((one) => [one.id, decisionOf(one)]).sort()"
    before = browser.execute_script(decisions)
    assert before[:4] == [
        ["broken", "open"],
        ["case_0", "accepted"],
        ["case_1", "rejected"],
        ["case_2", "open"],
    ]
    count = "return byId('review-count').textContent"
    assert browser.execute_script(count) == "1 accepted, 1 rejected, 7 not reviewed"
    type_into(browser, "reviewed", "rejected")
    assert ids_shown(browser) == ["case_1"]

    exported = tmp_path / "review.csv"
    exported.write_text(browser.execute_script("return reviewText()"), encoding="utf-8")
    found = read_review(exported)
    assert found["case_1"].note == '=SUM(A1), "edge"'
    assert (found["case_1"].reviewer, found["case_2"].decision) == ("AB", "open")
    assert found["case_1"].mask_sha256 == content_hash(run / "masks/case_1.nii.gz")

    browser.execute_script("localStorage.clear()")
    shutil.copytree(run, tmp_path / "run")
    assert invoke("report", tmp_path / "run", "--review", exported)[0] == 3  # one case failed
    show(browser, tmp_path / "run/report.html")
    assert browser.execute_script(decisions) == before
    # A review of another mask is not a review of this one.
    old = found["case_1"].mask_sha256
    exported.write_text(exported.read_text("utf-8").replace(old, "0" * 64), encoding="utf-8")
    assert invoke("report", tmp_path / "run", "--review", exported)[0] == 3  # one case failed
    show(browser, tmp_path / "run/report.html")
    assert browser.execute_script(decisions)[2] == ["case_1", "open"]
    stale = "return byId('stale-reviews').textContent"
    assert "The reviews of 1 case are left out" in browser.execute_script(stale)
    exported.write_text("case_id,review\nunknown,accepted\n")
    code, said = invoke("report", tmp_path / "run", "--review", exported)
    assert (code, "has 1 case that the run or manifest does not have: unknown" in said) == (4, True)
    assert errors_of(browser) == []


def test_the_interval_in_the_plot_is_that_of_the_summary(page: Any, cohort: Path) -> None:
    with (cohort / "run/summary.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "dice" and not row["by"]]
    drawn = page.execute_script("return columnsOf('dice').map(intervalOf)")
    for row, interval in zip(rows, drawn, strict=True):
        for key, name in (("mean", "mean"), ("low", "ci_low"), ("high", "ci_high")):
            assert interval[key] == pytest.approx(float(row[name]))
    shown = "return document.querySelectorAll('#distribution .interval').length"
    assert page.execute_script(shown) == 2
    type_into(page, "find", "case")  # a part of the cases has no interval of its own
    assert page.execute_script(shown) == 0


def test_a_metric_is_drawn_by_any_column(page: Any) -> None:
    names = "return [...byId('by').options].map((option) => option.text)"
    assert "<b>site</b>" in [name.lower() for name in page.execute_script(names)]
    draw = "byId('by').value = arguments[0]; drawMetric()"
    names = "[...document.querySelectorAll('#distribution .row-name')]"
    rows = f"return {names}.map((name) => name.textContent)"
    page.execute_script(draw, "case/<b>site</b>")
    assert page.execute_script(rows)[1:3] == ["ball, A", "ball, B"]  # the first one is "broken"
    page.execute_script(draw, "metric/volume_ml_ref")
    assert page.execute_script(rows) == []
    points = "return document.querySelectorAll('#distribution path.point').length"
    assert page.execute_script(points) == 16


def test_limits_of_agreement_can_be_computed_by_hand(page: Any) -> None:
    script = """
      const pairs = report.labels.map((label, position) => [{ label }, null, position]);
      return limitsOf(pairs, [1, 2, 3].map((y) => ({ position: 0, y })));
    """
    (limits,) = page.execute_script(script)
    assert limits["mean"] == pytest.approx(2)
    assert (limits["low"], limits["high"]) == pytest.approx((2 - 1.96, 2 + 1.96))
    type_into(page, "volume-plot", "difference")
    assert "ball: 0" in page.execute_script("return byId('volume-key').textContent")
    lines = "return document.querySelectorAll('#volumes .bias, #volumes .limit').length"
    assert page.execute_script(lines) == 6


def test_a_view_has_an_address_that_shows_it_again(page: Any, cohort: Path) -> None:
    type_into(page, "find", "case")
    type_into(page, "below", "0.9")
    type_into(page, "metric", "iou")
    place = page.execute_script("return buildFilters.few[0].place")
    type_into(page, f"filter-{place}", "B")
    wanted = ids_shown(page)
    assert 0 < len(wanted) < 9
    page.execute_script("openCase('case_7')")
    address = page.execute_script("return location.href")
    assert "find=case" in address and "case=case_7" in address
    page.get("about:blank")
    page.get(address)
    wait_for(lambda: page.execute_script("return document.body.dataset.ready"), "the page")
    assert ids_shown(page) == wanted
    assert page.execute_script("return byId('metric').value") == "iou"
    assert page.execute_script("return open.one.id") == "case_7"
    page.execute_script("byId('case').close(); clearFilters(); ")
    assert page.execute_script("return location.hash") == "#metric=iou"
    for unusable in ("#metric=none&status=%3Cb%3E", "#case=unknown", "#%", "#case"):
        page.execute_script("location.hash = arguments[0]", unusable)
        wait_for(lambda: page.execute_script("return byId('metric').value") == "dice", "the page")
        assert len(ids_shown(page)) == 9


def test_plots_and_tables_are_saved_with_their_values(page: Any) -> None:
    start = "globalThis.saved = []; download = (name, blob) => saved.push([name, blob]);"
    page.execute_script(
        start + "document.querySelectorAll('[data-download] button').forEach((one) => one.click())"
    )
    wait_for(lambda: page.execute_script("return saved.length") == 9, "nine files")
    page.execute_script(
        "globalThis.texts = {}; saved.forEach(([name, blob]) =>"
        " blob.text().then((text) => { texts[name] = text; }))"
    )
    wait_for(lambda: page.execute_script("return Object.keys(texts).length") == 9, "their texts")
    texts = page.execute_script("return texts")
    rows = list(csv.DictReader(texts["cases.csv"].splitlines()))
    assert [row["Case"] for row in rows] == ids_shown(page)
    dice = "return columnsOf('dice')[0].get(report.cases.find((one) => one.id === 'case_7'))"
    values = {row["Case"]: row for row in csv.DictReader(texts["distribution.csv"].splitlines())}
    assert float(values["case_7"]["Dice, ball"]) == page.execute_script(dice)
    for name in ("distribution.svg", "volumes.svg"):
        drawing = ElementTree.fromstring(texts[name])
        assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
        texts_of = [one.text for one in drawing.iter("{http://www.w3.org/2000/svg}text")]
        assert {"Dice", "Reference (ml)"} & set(texts_of)
        assert "var(" not in texts[name] and "class=" not in texts[name]
    assert texts["volumes.png"].startswith("\ufffdPNG")


def test_a_case_without_pictures_says_what_to_do(page: Any) -> None:
    page.execute_script("openCase('case_0')")
    assert "--cases all" in page.execute_script("return byId('viewer-state').textContent")
    page.execute_script("openCase('broken')")
    assert "0 bytes" in page.execute_script("return byId('case-side').textContent")


def test_headers_sort_both_ways_and_missing_values_stay_last(page: Any) -> None:
    click = "document.querySelector('[data-column=\"dice/1\"]').click()"
    page.execute_script(click)
    rising = ids_shown(page)
    page.execute_script(click)
    falling = ids_shown(page)
    assert rising[0] == "case_7"
    assert falling[0] == "case_0"
    assert rising[-1] == falling[-1] == "broken"
    state = "return document.querySelector('th:has([data-column=\"dice/1\"])').ariaSort"
    assert page.execute_script(state) == "descending"


def test_filters_reach_the_table_the_gallery_and_the_plots(page: Any) -> None:
    type_into(page, "find", "CASE_5")
    assert ids_shown(page) == ["case_5"]
    wait_for(lambda: page.execute_script("return byId('gallery').dataset.cards") == "1", "one card")
    assert (
        page.execute_script("return document.querySelectorAll('#distribution circle').length") == 2
    )
    type_into(page, "find", "")
    type_into(page, "status", "failed")
    assert ids_shown(page) == ["broken"]
    type_into(page, "status", "")
    type_into(page, "below", "0.5")
    assert "case_7" in ids_shown(page)
    assert "case_0" not in ids_shown(page)
    assert page.execute_script("return byId('page-count').textContent").endswith("of 9 cases")


def test_text_of_a_manifest_is_never_html(page: Any) -> None:
    shown = page.execute_script("return byId('table').innerText + byId('filters').innerText")
    assert NASTY in shown
    assert "<b>site</b>" in page.execute_script("return byId('table').textContent").lower()
    page.execute_script("openCase('broken')")
    assert page.execute_script("return window.hacked ?? 'sound'") == "sound"
    assert page.execute_script("return document.querySelectorAll('main b, #case b').length") == 0


def test_the_policy_blocks_third_party_scripts_and_requests(browser: Any, cohort: Path) -> None:
    tampered = cohort / "run/tampered.html"
    text = (cohort / "run/report.html").read_text()
    evil = (
        "<script>window.injected = 1</script><p onclick='window.handled = 1' id=evil>x</p></body>"
    )
    tampered.write_text(text.replace("</body>", evil))
    show(browser, tampered)
    browser.execute_script(
        """
        window.stopped = [];
        addEventListener("securitypolicyviolation", (event) => {
          stopped.push(event.effectiveDirective);
        });
        setTimeout(() => {  // outside the driver's own call, which may do everything
          try { window.evaluated = eval("1"); } catch { stopped.push("eval"); }
          byId("evil").click();
          const style = document.createElement("style");
          style.textContent = "body { display: none }";
          document.body.append(style);
          fetch("https://example.org/").catch(() => stopped.push("fetch"));
          new Image().src = "https://example.org/pixel.png";
        });
        """
    )
    wanted = {"eval", "style-src-elem", "connect-src", "fetch", "img-src"}
    wait_for(
        lambda: wanted <= set(browser.execute_script("return stopped")),
        f"{sorted(wanted)} to be stopped",
    )
    names = "return [window.injected, window.evaluated, window.handled]"
    assert browser.execute_script(names) == [None, None, None]
    assert any("inline script" in error for error in errors_of(browser))


def test_the_page_can_be_used_with_the_keyboard_alone(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> None:
        for key in keys:
            page.switch_to.active_element.send_keys(key)

    page.execute_script("document.querySelector('#table tbody button').focus()")
    press(Keys.ENTER)
    assert (
        page.execute_script("return byId('case').open && byId('case-title').textContent")
        == "broken"
    )
    page.execute_script("byId('next-case').focus()")
    press(Keys.ENTER)
    assert page.execute_script("return byId('case-title').textContent") == "case_7"
    press(Keys.ESCAPE)
    assert page.execute_script("return byId('case').open") is False
    page.execute_script("document.querySelector('#distribution .row').focus()")
    press(Keys.ARROW_RIGHT)
    assert "case_7, ball" in page.execute_script("return byId('page-status').textContent")
    press(Keys.ENTER)
    assert page.execute_script("return byId('case').open") is True
    unnamed = """
      const named = (one) => one.textContent.trim() || one.ariaLabel || one.labels?.length;
      return [...document.querySelectorAll("button, input, select, summary")]
        .filter((one) => !named(one)).map((one) => one.outerHTML);
    """
    open_viewer(page, "case_7")
    assert page.execute_script(unnamed) == []


def test_it_prints_light_and_without_controls(page: Any) -> None:
    page.execute_script("byId('theme').click()")
    dark = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    paper = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    controls = page.execute_script("return getComputedStyle(byId('filters')).display")
    pdf = page.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert dark == "rgb(15, 20, 24)"
    assert (paper, controls) == ("rgb(255, 255, 255)", "none")
    assert base64.b64decode(pdf["data"]).startswith(b"%PDF")


def test_a_single_file_needs_nothing_beside_it(browser: Any, cohort: Path, tmp_path: Path) -> None:
    from voxtile.run_folder.case_report import read_run

    write_page(
        cohort / "run",
        read_run(cohort / "run").reports,
        manifest=cohort / "cases.csv",
        cases="worst:1",
        single_file=True,
    )
    alone = tmp_path / "elsewhere.html"
    alone.write_bytes((cohort / "run/report.html").read_bytes())
    show(browser, alone)
    open_viewer(browser, "case_7")
    assert share_of(canvas_pixels(browser), "#0a0d10", 12) < 0.95
    assert errors_of(browser) == []
    write_page(
        cohort / "run",
        read_run(cohort / "run").reports,
        manifest=cohort / "cases.csv",
        cases="worst:6",
    )


def test_background_has_no_colour_with_a_hundred_labels(browser: Any, tmp_path: Path) -> None:
    """NiiVue lifts the least values of a label map: background would look like label 1."""
    labels = tuple(
        Label(value=number, name=f"l{number}", color="#ff0000" if number == 1 else "#00ff00")
        for number in range(1, 101)
    )

    def model(tiles: np.ndarray) -> np.ndarray:
        classes = np.where(tiles[..., 0] > 50, 100, 0)
        return np.eye(101, dtype="f4")[classes]

    image, _ = ball()
    write_volume(tmp_path / "a.nii.gz", image)
    (tmp_path / "cases.csv").write_text("case_id,image\na,a.nii.gz\n")
    bundle = make_bundle(labels=labels)
    result = run_manifest(tmp_path / "cases.csv", bundle, tmp_path / "run", models=[model])
    write_page(tmp_path / "run", result.reports, manifest=tmp_path / "cases.csv")
    show(browser, tmp_path / "run/report.html")
    open_viewer(browser, "a")
    red, green, blue = np.moveaxis(canvas_pixels(browser).astype(int), -1, 0)
    assert ((green > red + 40) & (green > blue + 40)).any()
    assert not ((red > blue + 6) & (abs(green - blue) < 3)).any()
    assert errors_of(browser) == []


def test_two_thousand_cases_stay_usable(browser: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    reports = [many_case(f"p{number:04}", rng) for number in range(2000)]
    (tmp_path / "run.json").write_text("{}")
    write_reports(tmp_path, reports)
    write_page(tmp_path, reports)
    assert (tmp_path / "report.html").stat().st_size < 5e6
    show(browser, tmp_path / "report.html")
    timing = "return performance.getEntriesByType('navigation')[0].domComplete"
    assert browser.execute_script(timing) < 6000
    assert len(ids_shown(browser)) == 50
    took = browser.execute_script(
        "const begin = performance.now(); byId('find').value = 'p1999'; applyFilters();"
        "return performance.now() - begin"
    )
    assert ids_shown(browser) == ["p1999"]
    assert took < 1500
    assert errors_of(browser) == []


def many_case(case_id: str, rng: np.random.Generator) -> CaseReport:
    """A case that was never computed, for a large cohort."""
    failed = bool(rng.random() < 0.02)
    rows = [
        LabelRow(value, name, "failed")
        if failed
        else LabelRow(
            value,
            name,
            "ok",
            dice=float(rng.beta(20, 3)),
            volume_ml_pred=float(rng.normal(20, 3)),
            volume_ml_ref=20.0,
        )
        for value, name in ((1, "left"), (2, "right"))
    ]
    return CaseReport(
        case_id=case_id,
        status="failed" if failed else "done",
        reason=Notice("truncated", "the file ends early") if failed else None,
        warnings=(),
        fingerprint="",
        labels=tuple(rows),
        geometry={},
        mask={},
        timings_s={"infer": float(rng.gamma(3))},
        seconds=1.0,
        peak_memory_mb=None,
        split=None,
        group=None,
        extras={"site": "ABC"[int(rng.integers(3))]},
    )


def test_the_viewer_is_the_published_file() -> None:
    digest = hashlib.sha256(resource(f"vendor/{VIEWER}").encode()).hexdigest()
    noted = (Path(__file__).parents[3] / "pipeline/report/page/vendor/README.md").read_text()
    assert digest in noted
    assert VIEWER in noted
    # In a single file it stands as text and runs under its hash: it must not end its element.
    assert "</script" not in resource(f"vendor/{VIEWER}")
