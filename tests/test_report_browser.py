"""The report in headless Chromium: it opens, the viewer works by mouse and keyboard, no request leaves."""

import re
import shutil
from pathlib import Path

import pytest

from litereason.report import write_report
from report_runs import make_comparison, make_run

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMEDRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
TAB, ESCAPE, LEFT, RIGHT, DOWN = "\ue004", "\ue00c", "\ue012", "\ue014", "\ue015"

pytestmark = pytest.mark.browser


@pytest.fixture
def browser(tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver")
    if not (CHROMIUM and CHROMEDRIVER):
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(CHROMEDRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def open_page(
    browser, page: Path, width: int = 1200, scripts: bool = True, **features: str
) -> None:
    """Open the page in a window `width` wide; `features`: of CSS media, `_` for `-`.

    Without `scripts` the driver cannot ask whether the page is complete: what it shows may come later.
    """
    size = {"width": width, "height": 844, "deviceScaleFactor": 2, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    browser.get(page.as_uri())
    support = pytest.importorskip("selenium.webdriver.support.ui")
    seen = "#viewer" if scripts else "#static-traces .item"  # it takes a moment to unpack
    support.WebDriverWait(browser, 30).until(lambda b: shown(b, seen))


def check_quiet(browser, page: Path) -> None:
    """No error in the console, and nothing but the page itself was asked for."""
    assert [one["message"] for one in browser.get_log("browser")] == []
    sent = [one["message"] for one in browser.get_log("performance")]
    asked = [one for one in sent if '"Network.requestWillBeSent"' in one]
    urls = {re.findall(r'"request":\{.*?"url":"(.*?)"', one)[0] for one in asked}
    # data in the page itself, and what the browser shows in a new tab, leave nothing
    local = ("data:", "chrome://", "chrome-untrusted://")
    assert {url for url in urls if not url.startswith(local)} == {page.as_uri()}


def shown(browser, css: str) -> list:
    return [one for one in browser.find_elements("css selector", css) if one.is_displayed()]


def keys(browser, *pressed: str) -> None:
    """Press keys wherever the focus is."""
    for key in pressed:
        browser.switch_to.active_element.send_keys(key)


def point_at(browser, element) -> None:
    """Move the mouse to the middle of an element."""
    from selenium.webdriver import ActionChains

    ActionChains(browser).move_to_element(element).perform()


def brightness(colour: str) -> float:
    red, green, blue = (float(part) for part in re.findall(r"[\d.]+", colour)[:3])
    return (red + green + blue) / 3


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(tmp_path, browser, width, scheme):
    page = write_report(make_comparison(tmp_path / "run"))
    open_page(browser, page, width, prefers_color_scheme=scheme)
    widths = "return [document.documentElement.scrollWidth, window.innerWidth]"
    content, window = browser.execute_script(widths)
    assert content <= window == width
    assert len(shown(browser, "main figure")) == 3
    assert all(one.size["height"] > 60 for one in shown(browser, "main figure, main table"))
    plots = browser.find_elements("css selector", "#trade-off svg[role=img]")
    assert [plot.is_displayed() for plot in plots] == [width > 500, width < 500]
    background, fill, stroke = browser.execute_script(
        "const text = document.querySelector('#training svg.plot:not(.swatch) text'),"
        " marker = document.querySelector('th svg use');"
        "return [getComputedStyle(document.body).backgroundColor,"
        " getComputedStyle(text).fill, getComputedStyle(marker).stroke]"
    )
    dark = scheme == "dark"
    assert (brightness(background) < 60) == dark and (brightness(fill) > 128) == dark
    assert stroke.startswith("rgb")  # the arm's colour variable is known
    # the keyboard reaches the skip link first
    browser.find_element("tag name", "body").send_keys(TAB)
    assert browser.switch_to.active_element.get_attribute("class") == "skip"
    check_quiet(browser, page)


def place(browser) -> str:
    return browser.find_element("id", "place").text


def test_the_viewer_by_mouse(tmp_path, browser):
    page = write_report(make_comparison(tmp_path / "run"))
    open_page(browser, page, prefers_reduced_motion="reduce")  # a click waits for no scrolling
    assert shown(browser, "#static-traces") == [] and len(shown(browser, "#stage .trace")) == 4
    assert browser.find_element("id", "kept").text == "All 12 items are here."
    number = int(re.findall(r"Item (\d+) of 12", place(browser))[0])
    browser.find_element("id", "next").click()
    assert place(browser).startswith(f"Item {number + 1} of 12")
    browser.find_element("id", "previous").click()
    assert place(browser).startswith(f"Item {number} of 12")
    # an arm more, an arm less
    browser.find_element("css selector", "input[value=direct]").click()
    titles = [one.text for one in shown(browser, "#stage h3")]
    assert titles == ["Base", "Direct answer", "RL", "LiteReason", "Trained pause"]
    counted = browser.find_element("css selector", "#arms > summary")
    assert counted.text == "Arms (5 of 9)"
    browser.find_element("css selector", "input[value=direct]").click()
    # a filter, a search, an item of the list
    for option in browser.find_elements("css selector", "#show option"):
        if option.get_attribute("value") == "lens":
            option.click()
    assert place(browser).endswith(tuple(f"test-{i}" for i in range(4))) and "of 4" in place(
        browser
    )
    browser.find_element("id", "find").send_keys("event 2.")
    assert place(browser) == "Item 1 of 1: test-2"
    # texts of records are text, not markup
    assert "<script>alert('story')</script>" in browser.find_element(
        "css selector", "#stage pre"
    ).get_attribute("textContent")
    assert browser.find_elements("css selector", "#stage b, #stage script") == []
    # the lens
    tip = browser.find_element("id", "tip")
    assert not tip.is_displayed()
    dot = shown(browser, "#stage .dot")[1]
    point_at(browser, dot)
    assert tip.is_displayed()
    said = " ".join(tip.text.split())
    assert (
        said
        == "thought 1, latent step 2 of 3: the LM head would say ␣word1 70.0 % <b> 12.5 % ⏎ 10.0 %"
    )
    point_at(browser, tip)
    assert tip.is_displayed()  # the pointer may go over to it
    point_at(browser, browser.find_element("id", "place"))
    assert not tip.is_displayed()
    # nothing matches
    browser.find_element("id", "find").send_keys("zzz")
    assert place(browser) == "No item matches." and shown(browser, "#stage .trace") == []
    # another seed shows other answers
    browser.find_element("id", "find").clear()
    browser.find_element("id", "find").send_keys(" ")
    browser.find_element("css selector", "input[name=seed][value='2']").click()
    assert len(shown(browser, "#stage .trace")) == 4
    check_quiet(browser, page)


def test_the_viewer_says_why_there_is_nothing_to_see(tmp_path, browser):
    page = write_report(make_comparison(tmp_path / "run"))  # four items have a lens
    open_page(browser, page, prefers_reduced_motion="reduce")
    hint = browser.find_element("id", "hint")
    assert hint.text.startswith("Point at a dot")
    options = browser.find_elements("css selector", "#items option")
    options[9].click()
    assert hint.text.startswith("No lens was kept for what is shown here")
    options[1].click()
    assert hint.text.startswith("Point at a dot")
    for box in browser.find_elements("css selector", "input[name=arm]:checked"):
        box.click()
    assert "No arm is chosen." in browser.find_element("id", "stage").text
    check_quiet(browser, page)


def test_a_claim_opens_by_mouse_and_keyboard(tmp_path, browser):
    page = write_report(make_comparison(tmp_path / "run"))
    open_page(browser, page, width=390, prefers_reduced_motion="reduce")
    texts = browser.find_elements("css selector", ".findings details > p")
    assert texts and not any(one.is_displayed() for one in texts)
    first = browser.find_element("css selector", ".findings summary")
    first.click()
    assert texts[0].is_displayed()
    browser.execute_script("arguments[0].focus()", first)
    keys(browser, "\ue007")  # enter
    assert not texts[0].is_displayed()
    marks = browser.find_elements("css selector", ".grid .verdict")
    assert marks and all(one.get_attribute("title") for one in marks)
    check_quiet(browser, page)


def test_on_a_phone_the_lens_leaves_the_words_around_a_dot_free(tmp_path, browser):
    page = write_report(make_comparison(tmp_path / "run"))
    open_page(browser, page, width=390)
    for height in (150, 700):  # of the dot in the window
        dot = shown(browser, "#stage .dot")[0]
        move = "const top = arguments[0].getBoundingClientRect().top - arguments[1];"
        browser.execute_script(f"{move} scrollBy({{top, behavior: 'instant'}})", dot, height)
        dot.click()
        tip = browser.find_element("id", "tip")
        box = "const {top, bottom} = arguments[0].getBoundingClientRect(); return [top, bottom]"
        (top, bottom), (low, high) = (browser.execute_script(box, one) for one in (tip, dot))
        assert top >= 0 and bottom <= 844
        assert max(top - high, low - bottom) > 100, height
    # out of sight, the dot takes the lens along
    there = browser.execute_script("return scrollY")
    for top, hidden in ((0, True), (there, False)):
        browser.execute_script("scrollTo({top: arguments[0], behavior: 'instant'})", top)
        wait = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
        browser.execute_async_script(wait)
        assert tip.is_displayed() is not hidden
    check_quiet(browser, page)


def test_the_viewer_by_keyboard(tmp_path, browser):
    page = write_report(make_comparison(tmp_path / "run"))
    open_page(browser, page, prefers_reduced_motion="reduce")  # the lens waits for no scrolling
    browser.execute_script("document.getElementById('items').focus()")
    first = place(browser)
    keys(browser, DOWN)
    assert place(browser) != first
    browser.execute_script("document.getElementById('find').focus()")
    keys(browser, *"event 1.")
    assert place(browser) == "Item 1 of 1: test-1"
    for _ in range(20):  # on to the first dot, past the list, the arms, the seeds and the prompt
        keys(browser, TAB)
        if browser.switch_to.active_element.get_attribute("class") == "dot":
            break
    tip = browser.find_element("id", "tip")
    assert tip.is_displayed() and tip.text.startswith("thought 1, latent step 1 of 3")
    dot = browser.switch_to.active_element
    node = browser.execute_cdp_cmd("Runtime.evaluate", {"expression": "document.activeElement"})[
        "result"
    ]["objectId"]
    told = browser.execute_cdp_cmd("Accessibility.getPartialAXTree", {"objectId": node})["nodes"][0]
    assert told["name"]["value"] == "thought 1, latent step 1 of 3"
    assert "word0 70.0 %" in told["description"]["value"].replace("\u00a0", " ")
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert browser.execute_script(outline) == "solid"  # the focus is seen
    keys(browser, RIGHT)
    assert (
        tip.text.startswith("thought 1, latent step 2 of 3")
        and browser.switch_to.active_element != dot
    )
    keys(browser, LEFT)
    assert (
        tip.text.startswith("thought 1, latent step 1 of 3")
        and browser.switch_to.active_element == dot
    )
    keys(browser, ESCAPE)
    assert not tip.is_displayed()
    keys(browser, TAB)  # one stop a trace: on to the next arm's dots or out of the traces
    assert browser.switch_to.active_element != dot and not tip.is_displayed()
    check_quiet(browser, page)


def test_without_javascript_three_items_are_shown(tmp_path, browser):
    page = write_report(make_run(tmp_path / "run"))
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    open_page(browser, page, width=390, scripts=False)
    assert len(shown(browser, "#static-traces .item")) == 3 and shown(browser, "#viewer") == []
    text = shown(browser, "#static-traces .text")[0].text
    assert text.startswith("Ada has the lamp <b>now</b>.")
    check_quiet(browser, page)


def test_motion_is_reduced_on_request(tmp_path, browser):
    page = write_report(make_run(tmp_path / "run", items=4))
    for wish, behaviour in (("reduce", "auto"), ("no-preference", "smooth")):
        open_page(browser, page, prefers_reduced_motion=wish)
        style = "return getComputedStyle(document.documentElement).scrollBehavior"
        assert browser.execute_script(style) == behaviour
