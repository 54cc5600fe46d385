"""FAISS as Python calls it: its type stubs know neither its keyword arguments nor arrays."""

from __future__ import annotations

from typing import Any

import faiss as _faiss

faiss: Any = _faiss
