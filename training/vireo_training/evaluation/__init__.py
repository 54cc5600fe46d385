"""Retrieval metrics, their intervals, baselines and reports."""
