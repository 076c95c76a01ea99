"""A run's page in a real browser: nothing is asked of any server, tables sort and are searched, the dark is dark.

`make test-browser`; needs Chromium with its driver, and the extra `browser`.
"""

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from hostile_texts import ANSWERS, NAMES

from fv.report.page import write_page
from fv.runs.run import Run

webdriver = pytest.importorskip("selenium.webdriver", reason="needs the extra browser")
WebDriverWait = pytest.importorskip("selenium.webdriver.support.ui", reason="needs the extra browser").WebDriverWait
axe = pytest.importorskip("axe_core_python.selenium", reason="needs the extra browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("chromedriver") is None, reason="needs Chromium and its driver"),
]


@pytest.fixture(scope="module")
def browser(hostile_run: Run) -> Iterator[Any]:
    """Chromium with the page of a run open from disk, every table written."""
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.get(write_page(hostile_run).as_uri())
    yield driver
    driver.quit()


def column(browser: Any, table: str, place: int) -> list[str]:
    rows = browser.find_elements("css selector", f"table[data-name='{table}'] tbody tr")
    return [row.find_elements("css selector", "td")[place].get_attribute("textContent") for row in rows]


def test_nothing_is_asked_of_any_server_and_the_console_is_empty(browser: Any) -> None:
    log = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in log if each["method"] == "Network.requestWillBeSent"]
    assert asked and all(url.startswith(("file:", "data:")) for url in asked)
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_hostile_names_are_read_and_never_run(browser: Any) -> None:
    # An alert would make this fail: a page with one open answers nothing.
    assert {*column(browser, "trials", 0)} == {*NAMES}
    assert any(ANSWERS[0] in text for text in column(browser, "trials", 3))
    assert browser.find_elements("css selector", "main img") == []


def test_a_table_sorts_by_its_numbers_by_mouse_and_by_keyboard(browser: Any) -> None:
    header = browser.find_element("xpath", "//table[@data-name='results']//th[contains(., 'Δ log p')]")
    place = browser.execute_script("return arguments[0].cellIndex", header)

    def exact() -> list[float]:
        cells = browser.find_elements("css selector", "table[data-name='results'] tbody tr")
        return [float(row.find_elements("css selector", "td")[place].get_attribute("data-order")) for row in cells]

    def wait_for(order: str) -> None:
        WebDriverWait(browser, 10).until(lambda _: header.get_attribute("aria-sort") == order)

    browser.execute_script("arguments[0].click()", header)
    wait_for("ascending")
    assert exact() == sorted(exact()) and len(set(exact())) == 3
    header.find_element("css selector", "[role=button]").send_keys("\ue007")  # Enter
    wait_for("descending")
    assert exact() == sorted(exact(), reverse=True)


def test_a_search_leaves_the_rows_that_hold_it(browser: Any) -> None:
    table = browser.find_element("css selector", "table[data-name='contrasts']")
    field = browser.find_element("css selector", f"input[aria-controls='{table.get_attribute('id')}']")
    field.send_keys("random_vector")
    assert {*column(browser, "contrasts", 2)} == {"random_vector"}
    field.clear()
    field.send_keys(" ")
    assert len({*column(browser, "contrasts", 2)}) > 1


def test_a_trials_prompts_open_by_keyboard(browser: Any) -> None:
    summary = browser.find_element("css selector", "table[data-name='trials'] summary")
    prompt = browser.find_element("css selector", "table[data-name='trials'] pre")
    assert not prompt.is_displayed()
    summary.send_keys("\ue007")
    assert prompt.is_displayed() and "Q: " in prompt.text


def test_the_page_follows_the_systems_theme(browser: Any) -> None:
    def lightness(theme: str) -> int:
        feature = {"name": "prefers-color-scheme", "value": theme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(",")))

    assert lightness("dark") < 120 < 700 < lightness("light")


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_is_no_wider_than_the_window(browser: Any, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_violation(browser: Any, theme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": theme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    found = [each for each in axe.Axe().run(browser)["violations"] if each["impact"] in ("serious", "critical")]
    assert [(each["id"], [node["html"][:120] for node in each["nodes"][:3]]) for each in found] == []
