"""Calls into ONNX Runtime's calibrators and quantizers."""

from __future__ import annotations

import errno
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from google.protobuf.message import DecodeError


@contextmanager
def quietly() -> Iterator[None]:
    """Holds back what they print, and log on the root logger.

    Raises:
        OSError: the disk is full. ONNX's shape inference, which they call, writes a file without
            looking whether it could, and they fail to read it.
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
