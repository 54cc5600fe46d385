"""A folder is chosen, indexed and watched; indexing is cancelled and taken up again."""

from __future__ import annotations

import threading

import pytest
from support.album import write_album
from vireo_client.index import IndexWriter
from vireo_web.jobs import Job

pytest.importorskip(
    "playwright", reason="the browser tests need playwright: pip install playwright"
)


@pytest.fixture
def photos(tmp_path):
    folder = write_album(tmp_path / "photos", 16)
    (folder / "captions.jsonl").unlink()
    (folder / "2024" / "broken.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture
def gate(monkeypatch):
    """Let jobs wait after their first progress, until the gate is opened."""
    opened = threading.Event()
    advance = Job.advance

    def slow(job, *progress):
        advance(job, *progress)
        assert opened.wait(120)

    monkeypatch.setattr(Job, "advance", slow)
    yield opened
    opened.set()


def choose(page, *names):
    """Open the sheet and walk into a folder."""
    page.locator("#open-folders").click()
    for name in names:
        page.locator(".folder-list .row", has_text=name).first.click()
        page.locator(".crumb strong", has_text=name).wait_for()


def test_a_folder_is_indexed_and_watched(open_page, serve_page, photos, gate, picture):
    server = serve_page(roots=(photos.parent,))
    page = open_page(server.url)
    choose(page, "photos")
    page.get_by_role("button", name="Lập chỉ mục thư mục này").click()
    job = page.locator(".job")
    job.locator(".job-facts", has_text="trên").wait_for()
    assert page.locator("#job-chip").inner_text().startswith("Đang lập chỉ mục")
    page.locator("#empty", has_text="Đang đọc ảnh").wait_for()
    picture(page, "indexing")

    gate.set()
    page.locator(".job[data-state=done]").wait_for()
    assert "Thêm 16" in job.inner_text()
    job.locator(".skipped summary").click()
    assert "broken.jpg" in job.locator(".skipped li").inner_text()
    picture(page, "indexed")
    page.locator("#folders header button").click()
    assert page.locator("#job-chip").is_hidden()
    # None of these images is likely to be what the examples name: each is one to search by.
    page.locator(".tile img.here").first.wait_for()
    picture(page, "start-without-captions")
    page.locator(".tile").first.click()
    page.locator("#chip").wait_for()
    page.locator(".card").first.wait_for()


def test_indexing_is_cancelled_and_taken_up_again(open_page, serve_page, photos, gate, picture):
    server = serve_page(roots=(photos.parent,))
    page = open_page(server.url)
    choose(page, "photos")
    page.get_by_role("button", name="Lập chỉ mục thư mục này").click()
    job = page.locator(".job")
    job.locator(".job-facts", has_text="trên").wait_for()
    # A browser that goes away stops nothing: the next visit finds the job.
    page.reload()
    page.locator("#job-chip").click()
    with page.expect_response(lambda answer: answer.request.method == "DELETE"):
        job.get_by_role("button", name="Dừng").click()
    gate.set()
    page.locator(".job[data-state=cancelled]").wait_for()
    assert "vẫn được giữ" in job.inner_text()
    picture(page, "cancelled")
    job.get_by_role("button", name="Làm tiếp").click()
    page.locator(".job[data-state=done]").wait_for()


def test_a_folder_without_images(open_page, serve_page, tmp_path):
    (tmp_path / "nothing").mkdir()
    page = open_page(serve_page(roots=(tmp_path,)).url)
    choose(page, "nothing")
    page.get_by_role("button", name="Lập chỉ mục thư mục này").click()
    job = page.locator(".job")
    page.wait_for_function(
        "() => ['done', 'failed'].includes(document.querySelector('.job')?.dataset.state)"
    )
    assert "Không thấy ảnh nào" in job.inner_text()


def test_a_folder_that_is_gone(open_page, serve_page, tmp_path, faults):
    (tmp_path / "here" / "photos").mkdir(parents=True)
    page = open_page(serve_page(roots=(tmp_path / "here",)).url)
    page.locator("#open-folders").click()
    row = page.locator(".folder-list .row", has_text="photos")
    row.wait_for()
    (tmp_path / "here" / "photos").rmdir()
    row.click()
    page.locator("#folders .fault").wait_for()
    assert page.locator("#folders .fault").inner_text()
    faults.forgive("Failed to load resource")


def test_an_index_that_another_program_writes(open_page, serve_page, photos, repository, tmp_path):
    server = serve_page(roots=(photos.parent,))
    page = open_page(server.url)
    with IndexWriter(tmp_path / "index", repository):
        choose(page, "photos")
        page.get_by_role("button", name="Lập chỉ mục thư mục này").click()
        page.locator(".job[data-state=failed]").wait_for()
    assert "Một chương trình khác đang ghi" in page.locator(".job .fault").inner_text()
    page.get_by_role("button", name="Làm tiếp").click()
    page.locator(".job[data-state=done]").wait_for()
