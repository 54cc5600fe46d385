"""A health check for containers: `python3 -m vireo_serving.server.healthcheck [URL]`.

It ends with 0 if Triton is ready and both preprocessing models answer, which run in processes of
their own. It needs no key.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from vireo_client.errors import ServerError, ServerOverloaded
from vireo_client.repository import PREPROCESS_IMAGE, PREPROCESS_TEXT

from ..admin import Admin, RequestInput

DEFAULT_URL = "http://127.0.0.1:8000"
_SECONDS = 5.0


def check(url: str) -> None:
    """Check a server at `http://host:port`.

    Raises:
        ServerError: it is not ready, or a model does not answer.
    """
    admin = Admin(url, "", timeout=_SECONDS)
    admin.check_ready(timeout=_SECONDS)
    text, image = RequestInput.bytes_of(b"a"), RequestInput.bytes_of(b"")
    with suppress(ServerOverloaded):  # it lives, and has more to do than it can
        admin.infer(PREPROCESS_TEXT, {"text": text}, "input_ids", timeout=_SECONDS)
    with suppress(ServerOverloaded):
        admin.infer(PREPROCESS_IMAGE, {"image": image}, "pixels", timeout=_SECONDS)


if __name__ == "__main__":
    try:
        check(sys.argv[1] if len(sys.argv) > 1 else DEFAULT_URL)
    except ServerError as error:
        sys.exit(str(error))
