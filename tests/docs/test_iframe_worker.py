"""The search of the site, opened from a folder: the script of a Worker runs in a hidden frame and answers every message, in order."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = os.environ.get("CHROMEDRIVER") or shutil.which("chromedriver")
WORKER = 'addEventListener("message", (event) => postMessage(event.data * 2));'
PAGE = """<!doctype html><body><script src="iframe-worker.js"></script><script>
  const answers = [];
  const worker = new Worker("double.js");
  worker.addEventListener("message", (event) => {
    answers.push(event.data);
    if (answers.length === 1) worker.postMessage(3);
    document.title = answers.join(" ");
  });
  worker.postMessage(1);
  worker.postMessage(2);
</script>"""


@pytest.mark.browser
def test_a_worker_answers_on_a_page_that_is_opened_from_a_folder(tmp_path: Path) -> None:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.support.ui import WebDriverWait

    if not CHROMIUM or not DRIVER:
        pytest.skip("no Chromium with its chromedriver on PATH (Debian: chromium chromium-driver), or in $CHROMIUM and $CHROMEDRIVER")
    for name, text in (("page.html", PAGE), ("double.js", WORKER)):
        (tmp_path / name).write_text(text)
    shutil.copy(ROOT / "docs/assets/iframe-worker.js", tmp_path)
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(option)
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.get((tmp_path / "page.html").as_uri())
        WebDriverWait(driver, 10).until(lambda one: one.title.count(" ") == 2)
        assert driver.title == "2 4 6"
    finally:
        driver.quit()
