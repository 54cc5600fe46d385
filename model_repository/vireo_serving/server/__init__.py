"""Starts, watches and stops a Triton Inference Server."""
