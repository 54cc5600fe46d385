"""Engines held to PyTorch: measured, judged, reported."""
