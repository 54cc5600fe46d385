"""Parity: engines measured against PyTorch, gated, and reported."""
