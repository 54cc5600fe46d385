"""What the page says when something is not as it should be, in the user's language."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from PIL import Image
from support.album import draw, write_album
from support.bundles import write_repository
from support.waiting import wait_until

pytest.importorskip(
    "playwright", reason="the browser tests need playwright: pip install playwright"
)

QUERY = "đồi xanh buổi chiều"
UNAVAILABLE = "Failed to load resource"


def hits(page, text=QUERY):
    """Type a query, and wait for its hits and for what they can be filtered by."""
    page.locator("#query").fill(text)
    page.locator(".card").first.wait_for()
    page.locator("#filters .pill").first.wait_for()


def said(page, name):
    """Wait for a notice and return its text."""
    notice = page.locator(f"[data-notice={name}]")
    notice.wait_for()
    return notice.inner_text()


@pytest.fixture
def small(tmp_path):
    return write_album(tmp_path / "photos", 12)


def test_an_empty_index_offers_to_choose_a_folder(open_page, serve_page, small, picture):
    page = open_page(serve_page(roots=(small.parent,)).url)
    page.locator("#empty").wait_for()
    assert "Chưa có ảnh nào" in page.locator("#empty").inner_text()
    picture(page, "empty-index")
    page.get_by_role("button", name="Chọn thư mục").click()
    page.locator("#folders .folder-list .row").first.wait_for()


def test_no_hit_above_the_relevance(open_page, served, picture):
    page = open_page(f"{served.url}/?q=con+tàu+vũ+trụ&min=0.99")
    page.locator("#empty").wait_for()
    assert "không có ảnh nào đạt độ phù hợp 99%" in page.locator("#empty").inner_text().lower()
    picture(page, "no-hit")
    page.get_by_role("button", name="Vẫn xem").click()
    page.locator(".card").first.wait_for()


def test_a_server_that_is_gone_comes_back(open_page, serve_page, small, faults, picture):
    server = serve_page()
    server.index(small)
    page = open_page(server.url)
    hits(page)
    server.stop()
    page.locator("#query").fill("unanswered")
    assert "Mất kết nối" in said(page, "server")
    picture(page, "server-gone")
    # It fails once more before the server is back, and the query is asked all the same.
    page.locator("[data-notice=server]", has_text="2 giây").wait_for()
    with page.expect_response(lambda answer: "q=unanswered" in answer.url):
        server.start()
    page.locator("[data-notice=server]").wait_for(state="hidden")
    page.locator(".card").first.wait_for()
    faults.forgive(UNAVAILABLE)


def test_an_index_that_changes_meanwhile(open_page, serve_page, small, faults):
    server = serve_page()
    server.index(small)
    page = open_page(server.url)
    hits(page)
    assert page.locator(".card").count() == 12
    write_album(small, 3, first=100)
    server.index(small)
    hits(page, "núi đá")
    page.wait_for_function("() => document.querySelectorAll('.card').length === 3")
    faults.forgive("404 (Not Found)")  # a thumbnail of the old index


def test_an_index_that_is_removed(open_page, serve_page, small, tmp_path, faults):
    server = serve_page()
    server.index(small)
    page = open_page(server.url)
    hits(page)
    shutil.rmtree(tmp_path / "index")
    page.locator("#query").fill("núi đá")
    assert "bị xóa" in said(page, "index")
    page.locator("#empty").wait_for()
    server.index(small)
    page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    page.locator(".card").first.wait_for()
    page.locator("[data-notice=index]").wait_for(state="hidden")
    faults.forgive(UNAVAILABLE)


def test_an_image_that_was_deleted(open_page, serve_page, small, faults, picture):
    server = serve_page()
    server.index(small)
    page = open_page(server.url)
    for path in small.rglob("*.jpg"):
        path.unlink()
    hits(page)
    card = page.locator(".card.gone").first
    card.wait_for()
    assert "không còn trên đĩa" in card.inner_text()
    card.click()
    page.locator(".stage-note").wait_for()
    assert "đã bị xóa" in page.locator(".stage-note").inner_text()
    picture(page, "image-deleted")
    faults.forgive(UNAVAILABLE)


def test_an_image_of_a_busy_server_is_not_called_deleted(open_page, served, faults):
    page = open_page(served.url)
    hits(page)
    for address in (re.compile(r"/v1/images/\d+$"), "**/v1/images/*/info"):
        page.route(address, lambda route: route.fulfill(status=503, body="{}"))
    page.locator(".card").first.click()
    # Once for what the list of hits does not hold, and once because the image did not show.
    page.wait_for_function(
        """() => performance.getEntriesByType("resource")
            .filter(({ name }) => /images.[0-9]+.info$/.test(name)).length === 2"""
    )
    page.evaluate("() => new Promise(resolve => setTimeout(resolve))")
    assert page.locator(".stage-note").is_hidden()
    faults.forgive(UNAVAILABLE)


def test_a_model_that_does_not_fit(open_page, serve_page, small, tmp_path, faults):
    server = serve_page()
    server.index(small)
    server.stop()
    other = write_repository(tmp_path / "other", "another-bundle-01").folder
    page = open_page(serve_page(tmp_path / "index", model=other).url)
    assert "mô hình khác" in said(page, "index")
    faults.forgive(UNAVAILABLE)


def test_texts_of_any_length_and_kind(open_page, served, picture):
    page = open_page(served.url)
    page.locator("#welcome").wait_for()  # then the server has told its limits
    page.locator("#query").fill("a" * 10_000)
    assert "10.000 ký tự" in said(page, "long")
    picture(page, "too-long")
    hits(page, "🌄🌾 đồi")
    page.locator("[data-notice=long]").wait_for(state="hidden")
    page.locator("#query").fill("   ")
    page.locator("#welcome").wait_for()
    hits(page, "đồi " * 400)


def test_an_upload_that_is_no_image(open_page, served, tmp_path, faults, picture):
    page = open_page(served.url)
    page.locator("#welcome").wait_for()
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    page.locator("#file").set_input_files(tmp_path / "notes.txt")
    assert "“notes.txt” không phải là ảnh" in said(page, "drop")
    page.locator("[data-notice=drop] .plain").click()
    page.locator("#file").set_input_files(tmp_path / "broken.jpg")
    assert "“broken.jpg” không phải là ảnh" in said(page, "drop")
    picture(page, "no-image")
    assert page.locator("#chip").is_hidden()
    faults.forgive(UNAVAILABLE)


def test_a_key_is_asked_for(open_page, serve_page, small, faults, picture):
    server = serve_page(keys=("right-key-of-some-length",))
    server.index(small)
    page = open_page(f"{server.url}/?q=đồi")
    page.locator("#key-field").fill("wrong")
    page.keyboard.press("Enter")
    page.locator("#key .fault").wait_for()
    picture(page, "key")
    page.locator("#key-field").fill("right-key-of-some-length")
    page.keyboard.press("Enter")
    page.locator(".card img.here").first.wait_for()
    page.reload()
    page.locator(".card img.here").first.wait_for()
    faults.forgive(UNAVAILABLE)


def test_captions_and_names_are_text(open_page, serve_page, tmp_path):
    markup = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    folder = tmp_path / "photos"
    draw(folder / "<b onclick=alert(1)>.jpg", 1)
    draw(folder / "b.jpg", 2)
    server = serve_page()
    server.index(folder)
    page = open_page(server.url)
    hits(page, markup)
    page.locator(".card").first.click()
    page.locator("#viewer .large.here").wait_for()
    titles = page.locator(".card .title").all_inner_texts()
    assert sorted(titles) == ["<b onclick=alert(1)>.jpg", "b.jpg"]
    page.keyboard.press("Escape")
    page.locator("#recent summary").click()
    assert page.locator("#recent-list .row").first.inner_text() == markup
    assert page.title() != "owned"
    wait_until(lambda: page.locator("#viewer").is_hidden())


def test_a_busy_server_is_asked_again(open_page, served, faults):
    page = open_page(served.url)
    refusals = [1, 2]
    page.route(
        "**/v1/search?*k=30*",
        lambda route: (
            route.fulfill(status=503, headers={"Retry-After": "1"}, body="{}")
            if refusals and refusals.pop()
            else route.continue_()
        ),
    )
    page.locator("#query").fill(QUERY)
    assert "đang bận" in said(page, "server")
    page.locator(".card").first.wait_for()
    page.locator("[data-notice=server]").wait_for(state="hidden")
    assert refusals == []
    faults.forgive(UNAVAILABLE)


def test_looking_at_the_server_changes_nothing_that_is_open(open_page, served):
    page = open_page(f"{served.url}/?q=đồi")
    page.locator(".card").first.wait_for()
    page.locator("#filters summary").first.click()
    with page.expect_response("**/v1/info") as answered:
        page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    answered.value.finished()
    page.evaluate("() => new Promise(resolve => setTimeout(resolve))")  # the page has read it
    page.locator("#filter-from").fill("2024-01-01")
    assert page.locator("#filters details").first.get_attribute("open") is not None


def test_a_large_file_is_shown_smaller(open_page, serve_page, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (1200, 1300, 3), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(noise).save(tmp_path / "photos" / "noise.png", compress_level=0)
    server = serve_page()
    server.index(tmp_path / "photos")
    page = open_page(server.url)
    hits(page)
    page.locator(".card").first.click()
    page.locator("#viewer .large.here").wait_for()
    assert page.locator("#viewer .large").get_attribute("src").endswith("thumbnail?size=2048")
