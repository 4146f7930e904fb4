"""A real Chromium without a window, for tests of pages."""

import shutil
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    # WebGL 2 in software, for the viewer.
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--window-size=1100,750",
)


def start_browser(profile: Path) -> Iterator[Any]:
    """Yield a WebDriver with a fresh profile; skip where there is no Chromium."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((path for name in names if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chromium = webdriver.Chrome(options=options, service=Service(driver))
    yield chromium
    chromium.quit()


def errors_of(browser: Any) -> list[str]:
    """Return the errors in the console since the last call."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 20) -> Any:
    """Return the result of a condition as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds} s")


def share_of(picture: np.ndarray, color: str, tolerance: int = 6) -> float:
    """Return the share of the pixels of a picture that have a colour."""
    rgb = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)])
    return float((np.abs(picture.astype(int) - rgb).max(axis=-1) <= tolerance).mean())


def canvas_pixels(browser: Any) -> np.ndarray:
    """Return the colours of the canvas of the viewer."""
    from selenium.webdriver.common.by import By

    png = browser.find_element(By.ID, "canvas").screenshot_as_png
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))
