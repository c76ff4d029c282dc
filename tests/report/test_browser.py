"""The page in a real browser: sorting, filtering, tooltips, and nothing on the console or the network."""

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustvit.report import page as page_module
from robustvit.report.page import write_bundle, write_report
from robustvit.report.samples.sample_rows import PredictedCell, SampleGroup

pytestmark = pytest.mark.browser

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = os.environ.get("CHROMEDRIVER") or shutil.which("chromedriver")
QUIET = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--window-size=1280,900", "--force-prefers-reduced-motion",
)  # fmt: skip


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    if not CHROMIUM or not DRIVER:
        pytest.skip("no Chromium with its chromedriver on PATH (Debian: chromium chromium-driver), or in $CHROMIUM and $CHROMEDRIVER")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(chromium: Any, html: Path) -> Any:
    chromium.get_log("browser")
    chromium.get_log("performance")
    chromium.get(html.as_uri())
    return chromium


def find(page: Any, selector: str) -> Any:
    return page.find_element("css selector", selector)


def rows(page: Any) -> list[str]:
    shown = page.find_elements("css selector", "#ranking tbody tr")
    return [row.find_element("css selector", "th").text.splitlines()[0] for row in shown if row.is_displayed()]


def test_a_click_on_a_heading_sorts_and_sets_aria_sort(page: Any) -> None:
    heading = find(page, "#ranking thead th:nth-child(3)")
    heading.find_element("css selector", "button").click()
    assert (rows(page), heading.get_attribute("aria-sort")) == (["demo", "rival"], "descending")
    heading.find_element("css selector", "button").click()
    assert (rows(page), heading.get_attribute("aria-sort")) == (["rival", "demo"], "ascending")


def test_the_keyboard_sorts_too(page: Any) -> None:
    button = find(page, "#ranking thead th:nth-child(1) button")
    button.send_keys("\ue007")
    button.send_keys("\ue007")
    assert rows(page) == ["rival", "demo"]


def test_typing_in_the_filter_leaves_the_rows_that_match(page: Any) -> None:
    field = find(page, '[data-for="ranking"] input')
    field.send_keys("RIV")
    assert rows(page) == ["rival"]
    assert find(page, '[data-for="ranking"] output').text == "1 of 2"


def test_the_table_of_all_numbers_sorts_and_filters(page: Any) -> None:
    find(page, "#numbers summary").click()
    count = len(page.find_elements("css selector", "#tidy tbody tr"))
    find(page, '[data-for="tidy"] select[name="metric"] option:nth-child(3)').click()
    assert 0 < len(page.find_elements("css selector", "#tidy tbody tr")) < count
    button = next(one for one in page.find_elements("css selector", "#tidy thead button") if one.text.startswith("value"))
    button.click()
    place = page.execute_script("return arguments[0].closest('th').cellIndex", button)
    found = [row.find_elements("css selector", "td")[place].text for row in page.find_elements("css selector", "#tidy tbody tr")]
    known = [float(text) for text in found if text]
    assert known == sorted(known)
    assert "" not in found[: len(known)]


def test_a_curve_has_tooltips(page: Any) -> None:
    from selenium.webdriver import ActionChains

    column = find(page, ".panel .hover")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", column)
    ActionChains(page).move_to_element(column).pause(0.2).move_by_offset(1, 1).perform()
    assert "demo: 95.0" in find(page, "#tip").text


def test_a_model_can_be_hidden_from_the_curves(page: Any) -> None:
    button = find(page, ".legend button")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert not [curve for curve in page.find_elements("css selector", '.curve[data-slot="0"]') if curve.is_displayed()]


def test_nothing_is_logged_and_nothing_is_fetched(page: Any) -> None:
    find(page, "#ranking thead button").click()
    assert page.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert [url for url in urls if not url.startswith(("file:", "data:"))] == []
    assert any(url.startswith("file:") for url in urls)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_its_window(page: Any, width: int) -> None:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    )
    page.refresh()
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_arrow_keys_read_the_values_of_a_figure_and_escape_closes(page: Any) -> None:
    figure = find(page, ".panel svg")
    figure.send_keys("\ue014")  # right
    assert "demo: 95.0" in find(page, "#tip").text
    figure.send_keys("\ue014")
    assert "fog · 1" in find(page, "#tip").text
    figure.send_keys("\ue00c")  # escape
    assert not find(page, "#tip").is_displayed()


@pytest.fixture
def phone(page: Any) -> Iterator[Any]:
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True})
    page.refresh()
    yield page
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_phone_shows_model_clean_and_headline_first_without_scrolling_aside(phone: Any) -> None:
    cells = phone.find_elements("css selector", "#ranking tbody tr:first-child > *")
    shown = sorted((one for one in cells if one.is_displayed()), key=lambda one: (one.rect["y"], one.rect["x"]))
    texts = [one.text.splitlines()[0] for one in shown]
    assert texts[0] == "demo"
    assert [text.split()[0] for text in texts[2:4]] == ["95.0", "35.0"]
    assert max(one.rect["x"] + one.rect["width"] for one in shown) <= 390


def test_a_phone_sorts_by_a_choice(phone: Any) -> None:
    from selenium.webdriver.support.ui import Select

    choice = Select(find(phone, '[data-for="ranking"] select[name="sort"]'))
    choice.select_by_visible_text("mean corruption error")
    assert rows(phone) == ["demo", "rival"]
    choice.select_by_index(0)
    assert rows(phone) == ["demo", "rival"]


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, from the file that $AXE_CORE names or from npm's registry."""
    if given := os.environ.get("AXE_CORE"):
        return Path(given).read_text(encoding="utf-8")
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("axe")
    if npm is None:
        pytest.skip("no npm to fetch axe-core with, and no file of it in $AXE_CORE")
    done = subprocess.run([npm, "pack", "axe-core@4.10.3"], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        pytest.skip("npm's registry does not answer; $AXE_CORE may name axe.min.js of axe-core")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        source = archive.extractfile("package/axe.min.js")
        assert source is not None
        return source.read().decode()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_serious_violation(page: Any, axe: str, width: int, scheme: str) -> None:
    found = violations(page, axe, width, scheme)
    assert [one for one in found if one["impact"] in ("serious", "critical")] == []


def violations(page: Any, axe: str, width: int, scheme: str) -> list[dict[str, Any]]:
    """What axe finds with everything unfolded."""
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    )
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    page.refresh()
    page.execute_script("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    page.execute_script(axe)
    page.set_script_timeout(120)
    found = page.execute_async_script("const done = arguments[0]; axe.run().then((result) => done(result.violations))")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    return [{key: one[key] for key in ("impact", "id", "help")} | {"first": one["nodes"][0]["html"]} for one in found]


def test_robust_accuracy_shows_the_gradient_masking_verdict(page: Any) -> None:
    badge = find(page, "#ranking tbody td.num .badge")
    assert (badge.text, badge.is_displayed()) == ("unchecked", True)
    warnings = [item.text for item in page.find_elements("css selector", ".warnings li")]
    assert [text.split()[:3] for text in warnings] == [["unchecked", "demo,", "rival:"]]


def listed(page: Any) -> list[str]:
    """The rows that are drawn now, read at once: the list draws others as it is scrolled."""
    texts = "[...document.querySelectorAll('#samples tbody tr')].map(one => one.innerText.replace(/\\s+/g, ' ').trim())"
    found: list[str] = page.execute_script(f"return {texts}")
    return found


def choose(page: Any, field: str, text: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(find(page, f'#samples select[name="{field}"]')).select_by_visible_text(text)


def show_samples(page: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    page.execute_script("document.getElementById('samples').scrollIntoView({behavior: 'instant'})")
    WebDriverWait(page, 20).until(lambda _: find(page, "#samples output").text)


def test_samples_are_listed_by_what_models_get_wrong(page: Any) -> None:
    show_samples(page)
    assert find(page, "#samples output").text == "1 of 20"
    assert listed(page) == ["s00019 0 ✕ 1 ✕ 1"]
    choose(page, "b", "clean · rival")
    choose(page, "show", "right under A, wrong under B")
    assert [text.split()[0] for text in listed(page)] == ["s00015", "s00016", "s00017", "s00018"]
    find(page, '#samples input[name="text"]').send_keys("17")
    assert listed(page) == ["s00017 0 ✓ 0 ✕ 1"]


def test_a_choice_before_the_samples_were_seen_shows_them(page: Any) -> None:
    page.refresh()
    change = "const show = document.querySelector('#samples select[name=show]'); show.selectedIndex = show.options.length - 1;"
    page.execute_script(change + "show.dispatchEvent(new Event('change', {bubbles: true}))")
    assert " of " in page.execute_script("return document.querySelector('#samples output').textContent")
    show_samples(page)


def test_a_folder_of_a_report_loads_its_rows_and_images_from_disk(chromium: Any, store: Any, tmp_path: Path) -> None:
    chromium.get(write_bundle(store, tmp_path / "bundle").as_uri())
    show_samples(chromium)
    choose(chromium, "show", "all samples")
    image = find(chromium, "#samples tbody img")
    assert chromium.execute_script("return arguments[0].complete && arguments[0].naturalWidth", image) == 8


def test_a_million_samples_stay_quick(chromium: Any, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 1_000_000
    preds = np.arange(n) % 1000
    cells = tuple(PredictedCell("m", setting, setting, preds + shift) for setting, shift in (("clean", 0), ("fog", 1)))
    group = SampleGroup("many", tuple(f"s{i:07d}" for i in range(n)), np.where(np.arange(n) % 10 == 0, 1001, preds), (), cells)
    monkeypatch.setattr(page_module, "sample_groups", lambda *_: iter([group]))
    chromium.get(write_bundle(store, tmp_path / "bundle").as_uri())
    show_samples(chromium)
    assert find(chromium, "#samples output").text == "100,000 of 1,000,000"
    measure = """const form = document.querySelector('#samples form'), start = performance.now();
        form.elements.show.value = 'lost'; form.dispatchEvent(new Event('input', {bubbles: true})); return performance.now() - start"""
    assert chromium.execute_script(measure) < 1000
    assert find(chromium, "#samples output").text == "900,000 of 1,000,000"
    chromium.execute_script("const list = document.querySelector('#samples .list'); list.scrollTop = list.scrollHeight")
    chromium.execute_script("document.querySelector('#samples .list').dispatchEvent(new Event('scroll'))")
    assert listed(chromium)[-1].startswith("s0999999")
    assert len(listed(chromium)) < 40


@pytest.fixture
def compared(chromium: Any, make_store: Any, cells: Any, answered: Any, tmp_path: Path) -> Any:
    """The page of two stores whose fog 5 moved."""
    first = cells("demo", "rival") | {("demo", "snow", "2"): answered([True] * 20)}
    moved = {
        key: answered([True] * 20 if key[:2] == ("demo", "fog") and key[2] == "5" else [i % 5 > 0 for i in range(20)]) for key in first
    }
    again = {key: columns if key[1] in ("clean", "pgd") else moved[key] for key, columns in first.items() if key[1] != "snow"}
    a, b = (
        make_store(first, name="a", metrics=("top1", "corruption_error")),
        make_store(again, name="b", metrics=("top1", "corruption_error")),
    )
    chromium.get_log("browser")
    chromium.get(write_report(a, tmp_path / "two.html", against=b).as_uri())
    return chromium


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_on_a_page_of_two_stores(compared: Any, axe: str, width: int, scheme: str) -> None:
    assert violations(compared, axe, width, scheme) == []


@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_of_two_stores_fits_its_window_with_its_samples_shown(compared: Any, width: int) -> None:
    compared.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    )
    compared.refresh()
    show_samples(compared)
    assert compared.execute_script("return document.documentElement.scrollWidth") <= width
    compared.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_cells_of_two_stores_sort_and_filter_with_badges(compared: Any) -> None:
    from selenium.webdriver.support.ui import Select

    Select(find(compared, '[data-for="tidy"] select[name="verdict"]')).select_by_visible_text("only in A")
    assert [row.text.split()[:3] for row in compared.find_elements("css selector", "#tidy tbody tr")] == [["demo", "snow", "2"]]
    assert find(compared, "#tidy tbody .badge").text == "only in A"
    Select(find(compared, '[data-for="tidy"] select[name="verdict"]')).select_by_visible_text("all")
    button = next(one for one in compared.find_elements("css selector", "#tidy thead button") if one.text.startswith("B − A"))
    button.click()
    place = compared.execute_script("return arguments[0].closest('th').cellIndex", button)
    texts = [row.find_elements("css selector", "td")[place].text for row in compared.find_elements("css selector", "#tidy tbody tr")]
    known = [float(text) for text in texts if text]
    assert known == sorted(known)
    assert len(set(known)) > 1
    assert compared.get_log("browser") == []


def test_the_samples_of_a_cell_are_those_that_changed_between_two_stores(compared: Any) -> None:
    show_samples(compared)
    options = [one.text for one in compared.find_elements("css selector", '#samples select[name="cell"] option')]
    assert all("changed)" in text for text in options)
    most = max(options, key=lambda text: int(text.rpartition("(")[2].split()[0]))
    assert find(compared, '#samples select[name="cell"] option:checked').text == most
    choose(compared, "cell", next(text for text in options if text.startswith("fog 5 · demo")))
    assert find(compared, "#samples output").text.startswith("11 of ")
    assert listed(compared)[0] == "s00009 0 ✕ 1 ✓ 0"
    choose(compared, "show", "right in A, wrong in B")
    assert listed(compared) == []


def test_arrow_keys_read_the_differences_of_a_plot(compared: Any) -> None:
    plot = find(compared, ".forest")
    plot.send_keys("\ue014")  # right
    assert "clean" in find(compared, "#tip").text
    plot.send_keys("\ue014")
    assert "fog 1" in find(compared, "#tip").text
    assert "on 20 images" in find(compared, "#tip").text
