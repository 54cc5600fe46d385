"""These tests use torch."""

import support.torch_settings  # noqa: F401
