"""What a person does with the page: search, look, search on."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

QUERY = "đồi xanh buổi chiều"
HITS = "**/v1/search?*k=30*"
"""Requests of the grid; the start page asks for other numbers of hits."""


def ids(page):
    """Return the images of the grid, in their order."""
    return page.locator(".card").evaluate_all("cards => cards.map(card => card.dataset.id)")


def state(page):
    """Return the query of the page's address."""
    return {name: value[0] for name, value in parse_qs(urlsplit(page.url).query).items()}


def wait_for_address(page, **expected):
    page.wait_for_function(
        """expected => {
            const given = new URLSearchParams(location.search);
            return Object.entries(expected).every(([name, value]) => given.get(name) === value);
        }""",
        arg=expected,
    )


def search(page, text=QUERY):
    """Type a query, and wait for its hits and for what they can be filtered by."""
    with page.expect_response(lambda answer: "/v1/search?" in answer.url and "k=30" in answer.url):
        page.locator("#query").fill(text)
    page.locator(".card").first.wait_for()
    page.locator("#filters .pill").first.wait_for()


def drop(page, path: Path, kind: str, name: str | None = None):
    """Drop a file onto the page, as from a file manager."""
    transfer = page.evaluate_handle(
        """([bytes, name, type]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
            return transfer;
        }""",
        [list(path.read_bytes()), name or path.name, kind],
    )
    page.dispatch_event("main", "dragenter", {"dataTransfer": transfer})
    page.locator("#drop").wait_for()
    page.dispatch_event("main", "drop", {"dataTransfer": transfer})


def test_hits_appear_while_one_types(open_page, served, picture):
    page = open_page(served.url)
    page.locator(".tile").first.wait_for()
    picture(page, "start")
    page.locator("#query").press_sequentially("đồi xanh", delay=20)
    page.locator(".card").first.wait_for()

    card = page.locator(".card").first
    assert card.locator(".score").inner_text().startswith(("0,", "1"))
    assert card.locator(".relevance").inner_text().endswith("%")
    assert "Phù hợp" in card.get_attribute("aria-label")
    assert page.locator(".card img").first.get_attribute("loading") == "lazy"
    assert state(page) == {"q": "đồi xanh"}
    picture(page, "hits")


def test_the_layout_stays_while_images_load(open_page, served):
    page = open_page(served.url)
    held = []
    holding = [True]
    page.route("**/thumbnail*", lambda route: held.append(route) if holding else route.continue_())
    search(page)
    frames = "nodes => nodes.map(n => JSON.stringify(n.getBoundingClientRect()))"
    before = page.locator(".frame").evaluate_all(frames)
    shapes = page.locator(".frame").evaluate_all(
        "nodes => nodes.map(n => n.clientWidth / n.clientHeight)"
    )
    holding.clear()
    for route in held:
        route.continue_()
    page.locator(".card img.here").first.wait_for()
    assert page.locator(".frame").evaluate_all(frames) == before
    # The frames have the images' own shapes, which differ.
    assert max(shapes) > 1.7
    assert min(shapes) < 0.8


def test_a_late_answer_never_overwrites_a_newer_one(open_page, served, faults):
    page = open_page(served.url)
    # Without this, the browser would drop the older request, and its answer could not come late.
    page.evaluate("AbortController.prototype.abort = () => {}")
    held = []
    page.route(lambda url: "/v1/search" in url and "first" in url, lambda route: held.append(route))
    with page.expect_request(lambda request: "first" in request.url):
        page.locator("#query").fill("first")
    search(page, "second")
    newer = ids(page)

    answer = {"matches": [], "generation": 1, "milliseconds": {"total": 1}}
    with page.expect_response(lambda response: "first" in response.url):
        held[0].fulfill(status=200, body=json.dumps(answer), content_type="application/json")
    page.evaluate("() => new Promise(resolve => setTimeout(resolve))")
    assert ids(page) == newer


def test_an_address_can_be_shared(open_page, served):
    page = open_page(served.url)
    search(page)
    page.locator("#filters select").first.select_option("2024/")
    wait_for_address(page, folder="2024/")
    page.locator("#busy").wait_for(state="hidden")
    shared = open_page(page.url)
    shared.locator(".card").first.wait_for()
    assert ids(shared) == ids(page)
    assert shared.locator("#query").input_value() == QUERY


def test_back_and_forward_walk_through_queries(open_page, served):
    page = open_page(served.url)
    search(page, "núi đá")
    page.keyboard.press("Enter")
    first = ids(page)
    search(page, "đồng lúa buổi sáng")
    page.go_back()
    wait_for_address(page, q="núi đá")
    page.wait_for_function(
        "expected => document.querySelector('.card')?.dataset.id === expected", arg=first[0]
    )
    assert page.locator("#query").input_value() == "núi đá"
    page.go_back()
    page.locator("#welcome").wait_for()
    page.go_forward()
    wait_for_address(page, q="núi đá")
    page.locator(".card").first.wait_for()


def test_filters_narrow_the_hits(open_page, served, picture):
    page = open_page(served.url)
    search(page)
    paths = "nodes => nodes.map(node => node.title)"

    folder, camera = page.locator("#filters select").all()
    with page.expect_response(HITS):
        folder.select_option("2024/")
    with page.expect_response(HITS) as answered:
        camera.select_option("Vireo Cam 2")
    hits = answered.value.json()["matches"]
    assert hits
    page.wait_for_function("n => document.querySelectorAll('.card').length === n", arg=len(hits))
    assert all("/2024/" in path for path in page.locator(".card .title").evaluate_all(paths))
    assert {hit["metadata"]["model"] for hit in hits} == {"Cam 2"}

    page.locator("#filters summary").first.click()
    with page.expect_response(HITS) as answered:
        page.locator("#filter-from").fill("2024-01-01")
    hits = answered.value.json()["matches"]
    assert hits
    assert all(hit["metadata"]["taken"] >= "2024" for hit in hits)
    picture(page, "filters")
    page.keyboard.press("Escape")

    page.get_by_role("button", name="Bỏ lọc").click()
    page.wait_for_function("() => document.querySelectorAll('.card').length === 30")
    assert state(page) == {"q": QUERY}


def test_more_hits_come_when_asked_for(open_page, served):
    page = open_page(served.url)
    search(page)
    first = ids(page)
    assert len(first) == 30
    page.locator("#more").click()
    page.wait_for_function("() => document.querySelectorAll('.card').length === 40")
    assert ids(page)[:30] == first
    assert page.locator("#more").is_hidden()


def test_more_hits_are_offered_before_the_server_has_told_its_limits(open_page, served):
    page = open_page(served.url)
    page.route("**/v1/info", lambda route: None)  # which is never answered
    page.goto(f"{served.url}/?q=đồi")
    page.locator("#more").click()
    page.wait_for_function("() => document.querySelectorAll('.card').length === 40")


def test_an_image_opens_with_all_that_is_known_of_it(open_page, served, picture):
    page = open_page(served.url)
    search(page)
    page.locator(".card").nth(1).click()
    viewer = page.locator("#viewer")
    viewer.locator(".large.here").wait_for()
    viewer.locator(".sentence").first.wait_for()
    path = viewer.locator(".path").inner_text()
    assert Path(path).is_file()
    assert viewer.locator("h2").inner_text() == Path(path).name
    viewer.locator(".captions li").nth(1).wait_for()
    assert viewer.locator(".captions li").count() == 2
    assert "điểm ảnh" in viewer.locator(".details").inner_text()
    picture(page, "image")

    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "path => document.querySelector('#viewer .path').textContent !== path", arg=path
    )
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(
        "path => document.querySelector('#viewer .path').textContent === path", arg=path
    )
    page.keyboard.press("Escape")
    viewer.wait_for(state="hidden")
    page.wait_for_function("() => !location.search.includes('view=')")
    page.wait_for_function("id => document.activeElement.dataset.id === id", arg=ids(page)[1])
    assert state(page) == {"q": QUERY}


def test_a_sentence_of_an_image_is_searched_for(open_page, served):
    page = open_page(served.url)
    search(page)
    page.locator(".card").first.click()
    sentence = page.locator(".sentence").first
    text = sentence.inner_text()
    sentence.click()
    wait_for_address(page, q=text)
    page.locator("#viewer").wait_for(state="hidden")


def test_more_like_an_image_and_a_text_beside_it(open_page, served, picture):
    page = open_page(served.url)
    search(page)
    page.locator(".card").nth(2).click()
    id_ = ids(page)[2]
    page.get_by_role("button", name="Ảnh tương tự").click()
    wait_for_address(page, like=id_)
    page.wait_for_function("id => document.querySelector('.card')?.dataset.id === id", arg=id_)
    assert page.locator("#chip").is_visible()
    picture(page, "more-like-this")

    with page.expect_response(HITS) as answered:
        page.locator("#query").fill("buổi đêm")
    asked = parse_qs(urlsplit(answered.value.url).query)
    assert (asked["image_id"], asked["q"], asked["text_weight"]) == ([id_], ["buổi đêm"], ["0.5"])
    with page.expect_response(HITS) as answered:
        page.locator("#mix-range").fill("0.9")
    assert "text_weight=0.9" in answered.value.url
    assert state(page) == {"like": id_, "q": "buổi đêm", "weight": "0.9"}
    picture(page, "text-and-image")
    page.locator("#chip-remove").click()
    wait_for_address(page, q="buổi đêm")
    assert page.locator("#mix").is_hidden()


@pytest.mark.parametrize("way", ["dropped", "pasted", "picked"])
def test_an_image_from_outside_is_searched_by(open_page, served, album, picture, way):
    page = open_page(served.url)
    path = album / "anh-4.jpg"
    with page.expect_response("**/v1/search/image") as answered:
        if way == "dropped":
            drop(page, path, "image/jpeg")
        elif way == "picked":
            page.locator("#file").set_input_files(path)
        else:
            page.evaluate(
                """bytes => {
                    const data = new DataTransfer();
                    const file = new File([new Uint8Array(bytes)], "a.jpg", { type: "image/jpeg" });
                    data.items.add(file);
                    dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
                }""",
                list(path.read_bytes()),
            )
    assert answered.value.json()["matches"][0]["name"] == path.name
    page.locator(".card").first.wait_for()
    assert page.locator(".card .title").first.get_attribute("title") == str(path)
    assert page.locator("#drop").is_hidden()
    page.locator("#described .pill").first.wait_for()
    picture(page, f"image-{way}")
    # Its address means nothing elsewhere, and the page says so.
    other = open_page(page.url)
    other.locator("[data-notice=drop]").wait_for()
    assert "thả lại" in other.locator("[data-notice=drop]").inner_text()


def test_hits_are_selected_copied_and_downloaded(open_page, served, picture):
    page = open_page(served.url, permissions=["clipboard-read", "clipboard-write"])
    search(page)
    cards = page.locator(".card")
    cards.nth(0).hover()
    cards.nth(0).locator(".tick").click()
    cards.nth(2).click(modifiers=["Shift"])
    assert page.locator(".card[aria-selected=true]").count() == 3
    assert page.locator("#selection strong").inner_text() == "Đã chọn 3 ảnh"
    picture(page, "selection")

    page.get_by_role("button", name="Chép đường dẫn").click()
    page.locator(".toast").wait_for()
    titles = cards.locator(".title").evaluate_all("nodes => nodes.map(node => node.title)")
    assert page.evaluate("navigator.clipboard.readText()").split("\n") == titles[:3]

    with page.expect_download() as download:
        page.get_by_role("button", name="Tải về").click()
    with zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes())) as files:
        assert sorted(Path(name).name for name in files.namelist()) == sorted(
            Path(title).name for title in titles[:3]
        )
    page.get_by_role("button", name="Bỏ chọn").click()
    assert page.locator("#selection").is_hidden()


def test_recent_searches_are_kept_in_the_browser(open_page, served):
    page = open_page(served.url)
    search(page, "núi đá buổi đêm")
    page.keyboard.press("Enter")
    page.locator(".brand").click()
    page.locator("#welcome .chips .pill").first.wait_for()
    assert page.locator("#welcome .chips .pill").all_inner_texts() == ["núi đá buổi đêm"]
    page.reload()
    page.locator("#recent summary").click()
    page.locator("#recent-list .row").click()
    wait_for_address(page, q="núi đá buổi đêm")
    page.locator("#recent summary").click()
    page.get_by_role("button", name="Xóa tất cả").click()
    assert page.locator("#recent-list li").count() == 0
