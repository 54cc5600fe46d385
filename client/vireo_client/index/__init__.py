"""An index: vectors and what stands behind them, in one folder."""

from __future__ import annotations

from .reader import Index, Match, NewImage, recorded_model

__all__ = ["Index", "Match", "NewImage", "recorded_model"]
