"""What the server says in English of files, folders and disks, said in the user's language."""

import errno
import io
import os
import sqlite3

import pytest
from PIL import Image
from vireo_client.errors import ImageError
from vireo_client.images import MAX_PIXELS, open_image


def _full_disk():
    return f"/index: cannot be saved ({OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))})"


def _full_disk_of_sqlite():
    with sqlite3.connect(":memory:") as db:
        db.execute("PRAGMA max_page_count = 2")
        with pytest.raises(sqlite3.OperationalError) as full:
            db.execute("CREATE TABLE t AS SELECT randomblob(100000)")
    db.close()
    return f"/index: cannot be saved ({full.value})"


def _forbidden():
    return os.strerror(errno.EACCES)


def _gone():
    return os.strerror(errno.ENOENT)


def _too_large():
    side = int(MAX_PIXELS**0.5) + 1
    file = io.BytesIO()
    Image.new("1", (side, side)).save(file, "PNG")
    return _refusal(file.getvalue())


def _no_image():
    return _refusal(b"no image")


def _refusal(data):
    with pytest.raises(ImageError) as refused:
        open_image(data, name="a.png")
    return str(refused.value)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (_full_disk, "đĩa"),
        (_full_disk_of_sqlite, "đĩa"),
        (_forbidden, "quyền"),
        (_gone, "không còn"),
        (_too_large, "lớn"),
        (_no_image, "không phải là ảnh"),
    ],
)
def test_a_reason_is_said_in_vietnamese_with_the_servers_words_behind_it(
    open_page, served, made, said
):
    page = open_page(served.url)
    text = made()
    shown = page.evaluate(
        "async text => (await import('/static/reasons.js')).reason(text)"
        ".map(node => node.textContent ?? node)",
        text,
    )
    assert len(shown) == 2, text
    assert said in shown[0].lower()
    assert shown[1] == text
