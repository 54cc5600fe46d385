"""The parts of Triton configurations that targets put together."""
