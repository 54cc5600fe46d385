"""Texts of many requests at once, without a server."""

import subprocess
import sys

import numpy as np
import pytest
from vireo_client.errors import DataError, SegmenterError
from vireo_client.text.pipeline import TextPath
from vireo_serving.models.text_requests import IdRange, TextRequests


def _request(*texts):
    return np.array([[text] for text in texts], dtype=object)


@pytest.fixture(scope="module")
def texts(bundle):
    return TextRequests(bundle.folder)


def test_each_request_gets_its_own_ids(texts, bundle):
    queries = ["con cá", "hai con cá màu đỏ " * 8, "ba ngôi sao"]
    path = TextPath.from_bundle(bundle)
    expected = [path.encode([query])[0].input_ids[0] for query in queries]
    assert len(expected[1]) > len(expected[0])
    encoded = [query.encode() for query in queries]
    first, both = texts.encode([_request(encoded[0]), _request(*encoded[1:])])
    for rows, wanted in ((first, expected[:1]), (both, expected[1:])):
        assert [row.tolist() for row in rows] == [row.tolist() for row in wanted]
    padded = texts.pad(both)
    assert padded.shape == (2, len(expected[1]))
    assert padded[1, : len(expected[2])].tolist() == expected[2].tolist()
    assert set(padded[1, len(expected[2]) :]) <= {bundle.config.text.pad_id}


def test_a_bad_text_fails_its_request_alone(texts):
    good, bad, blank, unknown = texts.encode(
        [
            _request(b"con ca"),
            _request(b"\xff"),
            _request(b"con", b" "),
            _request("👍".encode()),
        ]
    )
    assert len(good) == 1
    assert isinstance(bad, DataError)
    assert "text 0: is not UTF-8" in str(bad)
    assert isinstance(blank, DataError)
    assert "text 1: holds no text" in str(blank)
    assert isinstance(unknown, DataError)
    assert "text 0: holds no text that the model's tokenizer knows ('👍')" in str(unknown)


def test_a_segmenter_that_needs_scikit_learn_gets_it(bundle, monkeypatch):
    load = TextPath.from_bundle

    def needs_it(given):
        if "sklearn" in sys.modules:  # as one whose import fails
            raise SegmenterError("pyvi is not installed")
        return load(given)

    monkeypatch.delitem(sys.modules, "sklearn", raising=False)
    monkeypatch.setattr(TextPath, "from_bundle", needs_it)
    (rows,) = TextRequests(bundle.folder).encode([_request(b"con ca")])
    assert len(rows) == 1


def test_a_server_segments_by_pyvi_without_scikit_learn(bundle):
    """Which takes most of a second to load; and who needs it afterwards finds it."""
    pytest.importorskip("pyvi", reason="the pyvi segmenter needs its package")
    assert bundle.config.text.segmenter == "pyvi"
    code = f"""
import sys
from pathlib import Path
import numpy as np
from vireo_serving.models.text_requests import IdRange, TextRequests
texts = TextRequests(Path({str(bundle.folder)!r}))
assert "sklearn" not in sys.modules, "scikit-learn was loaded"
rows, = texts.encode([np.array(["học sinh đi học".encode()], dtype=object)])
import sklearn.base
print(rows[0].tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = TextRequests(bundle.folder).encode([_request("học sinh đi học".encode())])[0]
    assert done.stdout.strip() == str(row.tolist())


def test_importing_the_package_sets_no_environment_variable():
    code = """
import os
before = dict(os.environ)
import vireo_serving.models.image_requests, vireo_serving.models.text_requests
import vireo_serving.server.server
assert dict(os.environ) == before, set(os.environ) ^ set(before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_long_texts_are_refused_by_the_row_and_by_the_request(texts):
    word = b"con "
    good, row, request = texts.encode(
        [
            _request(*[word * 1024] * 16),
            _request(word, word * 1024 + b"c"),
            _request(*[word * 1024] * 16, b"c"),
        ]
    )
    assert len(good) == 16
    assert isinstance(row, DataError)
    assert "text 1: has 4097 bytes, at most 4096 are taken" in str(row)
    assert isinstance(request, DataError)
    assert "the 17 texts have 65537 bytes, at most 65536 are taken in one request" in str(request)


@pytest.mark.parametrize("vocab_size", [0, 100])
@pytest.mark.parametrize("shape", [(1, 0), (3, 0)])
def test_rows_without_ids_are_refused(vocab_size, shape):
    error = IdRange(vocab_size, 16).error(np.zeros(shape, dtype=np.int32))
    assert isinstance(error, DataError)
    assert "no ids" in str(error)
