"""How the page looks and is worked: by keyboard, on a phone, in the dark, in both languages."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote_plus

import pytest
import vireo_web

pytest.importorskip(
    "playwright", reason="the browser tests need playwright: pip install playwright"
)

QUERY = "đồi xanh buổi chiều"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def focused(page):
    return page.evaluate("() => document.activeElement.dataset.id ?? document.activeElement.id")


def test_everything_is_done_by_keyboard(open_page, served, picture):
    page = open_page(served.url)
    page.locator("#welcome").wait_for()
    press = page.keyboard.press
    page.evaluate("() => document.activeElement.blur()")
    press("/")
    assert focused(page) == "query"
    # Where keys come slowly, a part of the query is searched for, too.
    with page.expect_response(lambda answer: f"q={quote_plus(QUERY)}" in answer.url):
        page.keyboard.type(QUERY)
    page.locator(".card").first.wait_for()
    page.locator("#busy").wait_for(state="hidden")
    press("ArrowDown")
    cards = page.locator(".card").evaluate_all("nodes => nodes.map(node => node.dataset.id)")
    assert focused(page) == cards[0]
    press("ArrowRight")
    assert focused(page) == cards[1]
    tops = page.locator(".card").evaluate_all("nodes => nodes.map(node => node.offsetTop)")
    press("ArrowDown")
    below = cards.index(focused(page))
    assert tops[below] == min(top for top in tops if top > tops[0])
    press("ArrowUp")
    assert tops[cards.index(focused(page))] == tops[0]
    press("End")
    assert focused(page) == cards[-1]
    press("Home")
    press("Space")
    press("Shift+ArrowRight")
    assert page.locator(".card[aria-selected=true]").count() == 2
    picture(page, "keyboard")
    press("Enter")
    page.locator("#viewer .large.here").wait_for()
    press("Escape")
    page.locator("#viewer").wait_for(state="hidden")
    page.wait_for_function("id => document.activeElement.dataset.id === id", arg=cards[1])
    page.wait_for_function("() => !location.search.includes('view=')")
    press("Escape")  # leaves the selection
    assert page.locator("#selection").is_hidden()
    press("Escape")  # goes to the box
    assert focused(page) == "query"
    press("ArrowDown")
    press("?")
    page.locator("#keys dl").wait_for()
    picture(page, "keys")
    press("Escape")
    press("m")
    page.locator("#chip").wait_for()


def test_tab_reaches_each_control_and_one_card(open_page, served):
    page = open_page(f"{served.url}/?q=đồi")
    page.locator(".card").first.wait_for()
    page.evaluate("() => document.activeElement.blur()")
    seen = []
    for _ in range(30):
        page.keyboard.press("Tab")
        name = page.evaluate(
            """() => {
                const at = document.activeElement;
                return at.role ?? `${at.className} ${at.id}`;
            }"""
        )
        seen.append(name)
        if name == "option":
            break
    assert seen.count("option") == 1, seen
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.role") != "option"


def test_both_languages(open_page, served, picture):
    page = open_page(served.url, locale="en-GB")
    assert page.locator("html").get_attribute("lang") == "en"
    assert "Describe" in page.locator("#query").get_attribute("placeholder")
    page.locator("#query").fill(QUERY)
    page.locator(".card").first.wait_for()
    assert "images" in page.locator("#found").inner_text()
    picture(page, "english")
    page.locator("#language").click()
    assert page.locator("html").get_attribute("lang") == "vi"
    assert "ảnh" in page.locator("#found").inner_text()
    assert "Phù hợp" in page.locator(".card").first.get_attribute("aria-label")
    picture(page, "vietnamese")
    page.reload()
    assert "Tả bức ảnh" in page.locator("#query").get_attribute("placeholder")


def test_both_languages_say_the_same(open_page, served):
    page = open_page(served.url)
    vi, en = (
        page.evaluate(f"async () => (await import('/static/messages.{name}.js')).default")
        for name in ("vi", "en")
    )
    assert vi.keys() == en.keys()

    def values(message):
        texts = [message] if isinstance(message, str) else list(message.values())
        assert all(texts)
        return {value for text in texts for value in re.findall(r"\{(\w+)[:}]", text)}

    # A plural may leave its number out where there is one.
    assert {key: values(vi[key]) for key in vi} == {key: values(en[key]) for key in en}


def test_every_message_is_there(open_page, served):
    """A message that the scripts name and the list lacks would be a fault when it is said."""
    folder = Path(vireo_web.__file__).parent / "static"
    named = set()
    for path in [*folder.glob("*.js"), folder / "index.html"]:
        if not path.name.startswith("messages."):
            named |= set(re.findall(r"[\"'`]([a-z]+\.[a-z_]+)[\"'`]", path.read_text("utf-8")))
    page = open_page(served.url)
    known = page.evaluate(
        "async () => Object.keys((await import('/static/messages.vi.js')).default)"
    )
    groups = {key.split(".")[0] for key in known}
    assert {name for name in named if name.split(".")[0] in groups} <= set(known)


def test_light_and_dark(open_page, served, picture):
    ground = "() => getComputedStyle(document.body).backgroundColor"
    page = open_page(f"{served.url}/?q=đồi", color_scheme="dark")
    page.locator(".card img.here").first.wait_for()
    dark = page.evaluate(ground)
    picture(page, "dark")
    page.locator("#theme").click()
    light = page.evaluate(ground)
    assert (
        sum(map(int, light[4:-1].split(", "))) > 600 > 200 > sum(map(int, dark[4:-1].split(", ")))
    )
    page.reload()
    assert page.evaluate(ground) == light


def test_on_a_phone(open_page, served, picture):
    page = open_page(served.url, **PHONE)
    page.locator(".tile img.here").first.wait_for()
    picture(page, "phone-start")
    page.locator("#query").fill(QUERY)
    page.locator(".card img.here").first.wait_for()
    widest = "() => document.documentElement.scrollWidth"
    assert page.evaluate(widest) == 390
    small = page.locator("header button:visible, header summary:visible").evaluate_all(
        "nodes => nodes.filter(n => n.offsetWidth < 24 || n.offsetHeight < 24).map(n => n.id)"
    )
    assert small == []
    picture(page, "phone")
    page.locator(".card").nth(1).tap()
    page.locator("#viewer .large.here").wait_for()
    assert page.evaluate(widest) == 390
    picture(page, "phone-image")
    page.locator("#viewer .close").tap()
    page.locator("#viewer").wait_for(state="hidden")
    page.locator(".card .tick").first.tap()
    page.locator("#selection").wait_for()
    picture(page, "phone-selection")
    page.locator("#open-folders").tap()
    page.locator("#folders .row").first.wait_for()
    assert page.evaluate(widest) == 390
    picture(page, "phone-folders")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_fault_of_accessibility(open_page, served, scheme):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright",
        reason="needs axe-core: pip install axe-playwright-python",
    ).Axe()
    page = open_page(served.url, color_scheme=scheme, reduced_motion="reduce")

    def check(where):
        found = axe.run(page).response["violations"]
        serious = {
            fault["id"]: [node["html"][:120] for node in fault["nodes"]]
            for fault in found
            if fault["impact"] in ("serious", "critical")
        }
        assert serious == {}, where

    page.locator(".tile img.here").first.wait_for()
    check("start page")
    page.locator("#query").fill(QUERY)
    page.locator(".card img.here").first.wait_for()
    check("hits")
    page.locator(".card").first.click()
    page.locator("#viewer .sentence").first.wait_for()
    check("image")
    page.get_by_role("button", name="Ảnh tương tự").click()
    page.locator("#chip").wait_for()
    page.locator("#query").fill("buổi đêm")
    page.locator("#mix").wait_for()
    page.locator("#filters summary").first.click()
    check("filters and image with text")
    page.locator("#open-folders").click()
    page.locator("#folders .row").first.wait_for()
    check("folders")
