"""Keep ONNX Runtime's calibrators and quantizers quiet."""

from __future__ import annotations

import errno
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from google.protobuf.message import DecodeError


@contextmanager
def quietly() -> Iterator[None]:
    """Suppress their standard output and their messages on the root logger.

    Raises:
        OSError: the disk is full. They call ONNX's shape inference, which writes a file without
            checking for errors, and then they fail to read that file.
    """
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    except DecodeError as error:
        raise OSError(errno.ENOSPC, "a temporary file was cut off") from error
    finally:
        root.setLevel(level)
