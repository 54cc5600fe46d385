"""Bulk work: images from folders, lists and archives into an index, or embeddings into files.

A source lists images (`sources`), worker threads read each file once (`reading`), the towers embed
batches of them, and the writer of an index takes the batches (`pipeline`).
"""
