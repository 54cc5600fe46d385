import signal

import numpy as np
import pytest
from support.processes import in_fork, run_python
from support.small_index import new_image
from vireo_client.index.journal import Journal
from vireo_client.index.rows import FileStamp


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal-1.bin")


def _batch(number):
    """Return a batch of three images, with 0, 1 and 2 captions."""
    return [new_image(f"/{number}/{i}.jpg", 10 * number + i, captions=i) for i in range(3)]


def _same(one, other):
    return (
        one._replace(embedding=None, caption_embeddings=None)
        == other._replace(embedding=None, caption_embeddings=None)
        and np.array_equal(one.embedding, other.embedding)
        and len(one.captions) == (0 if other.caption_embeddings is None else len(other.captions))
        and (
            not one.captions or np.array_equal(one.caption_embeddings, other.caption_embeddings)
        )
    )  # fmt: skip


def _holds(journal, *numbers):
    """Return whether the journal replays the batches of these numbers, in this order."""
    replayed = list(Journal(journal.path).replay())
    expected = [_batch(number) for number in numbers]
    return len(replayed) == len(expected) and all(
        _same(one, other)
        for batch, wanted in zip(replayed, expected, strict=True)
        for one, other in zip(batch, wanted, strict=True)
    )


def test_batches_come_back_in_their_order_with_all_that_they_hold(journal):
    journal.append(_batch(1))
    journal.append([])
    journal.append(_batch(2))
    assert _holds(journal, 1, 2)
    full = _batch(3)[2]._replace(
        path="/ảnh/🌊 b\\u00e9.jpg",
        sha256="f" * 64,
        stamp=FileStamp(2**40, -5, "digest"),
        captions=("một\n", "hai 🐟"),
        fields={"make": "Nikon", "iso": 100, "latitude": 10.25},
    )
    journal.append([full])
    *_, (image,) = Journal(journal.path).replay()
    assert _same(image, full)
    assert image.fields == {"make": "Nikon", "iso": 100, "latitude": 10.25}
    assert [type(value) for value in image.fields.values()] == [str, int, float]
    assert image.embedding.dtype == np.float32


def test_no_file_and_an_empty_file_hold_nothing(journal):
    assert list(journal.replay()) == []
    journal.path.touch()
    assert list(journal.replay()) == []
    journal.append(_batch(1))
    assert _holds(journal, 1)
    journal.clear()
    journal.clear()
    assert not journal.path.exists()
    journal.append(_batch(2))
    assert _holds(journal, 2)


def test_a_record_that_is_cut_off_anywhere_is_dropped_and_written_over(journal, caplog):
    journal.append(_batch(1))
    first = journal.path.stat().st_size
    journal.append(_batch(2))
    whole = journal.path.read_bytes()
    lengths = {*range(first, len(whole), 97), first + 1, first + 11, first + 12, len(whole) - 1}
    for length in lengths:
        journal.path.write_bytes(whole[:length])
        assert _holds(journal, 1), length
        Journal(journal.path).append(_batch(3))
        assert _holds(journal, 1, 3), length
    assert f"{journal.path}: 1 bytes at its end are cut off or damaged" in caplog.text


@pytest.mark.parametrize("place", ["length", "checksum", "payload", "last byte"])
def test_a_damaged_record_is_dropped_and_never_read_as_another(journal, place):
    journal.append(_batch(1))
    first = journal.path.stat().st_size
    journal.append(_batch(2))
    data = bytearray(journal.path.read_bytes())
    at = {"length": first, "checksum": first + 9, "payload": first + 40, "last byte": -1}[place]
    data[at] ^= 0x10
    journal.path.write_bytes(data)
    assert _holds(journal, 1)


def test_a_file_that_is_no_journal_is_replaced(journal, caplog):
    journal.path.write_bytes(b"something else, and longer than a header")
    assert list(journal.replay()) == []
    assert "dropped" in caplog.text
    journal.append(_batch(1))
    assert _holds(journal, 1)


def test_embeddings_that_do_not_fit_their_captions_are_refused(journal):
    journal.append(_batch(1))
    image = _batch(2)[2]
    for wrong in (image.caption_embeddings[:1], None):
        with pytest.raises(ValueError, match=r"2\.jpg: there must be one embedding"):
            journal.append([image._replace(caption_embeddings=wrong)])
    assert _holds(journal, 1)


_KILLED = """
import os, signal, sys
from pathlib import Path
from support.small_index import new_image
from vireo_client.index.journal import Journal
journal = Journal(Path(sys.argv[1]))
for number in (1, 2):
    journal.append([new_image(f"/{number}/{i}.jpg", 10 * number + i, captions=i) for i in range(3)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_killed_loses_nothing_that_was_appended(journal):
    done = run_python("-c", _KILLED, journal.path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert _holds(journal, 1, 2)


def test_a_disk_that_fills_up_leaves_the_whole_records(journal):
    resource = pytest.importorskip("resource")
    journal.append(_batch(1))

    def fill():
        limit = journal.path.stat().st_size + 100  # room for a part of the next record
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            journal.append(_batch(2))
        except OSError as error:
            refused = error.errno
        size = journal.path.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        journal.append(_batch(3))
        return [refused, size]

    size = journal.path.stat().st_size
    refused, left = in_fork(fill)
    assert refused in (27, 28)  # EFBIG, ENOSPC
    assert left == size
    assert _holds(journal, 1, 3)
