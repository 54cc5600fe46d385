"""Models of others: dual encoders of transformers and open_clip, as two towers and a bundle."""

from .opening import is_foreign, open_source
from .source import Source

__all__ = ["Source", "is_foreign", "open_source"]
