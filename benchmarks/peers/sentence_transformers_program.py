"""Runs in the environment of sentence-transformers: a text a line in, an embedding a line out."""

from __future__ import annotations

import json
import sys

from sentence_transformers import SentenceTransformer

model = SentenceTransformer(sys.argv[1], device="cpu")
for line in sys.stdin:
    embedding = model.encode([json.loads(line)], show_progress_bar=False)[0]
    print(json.dumps(embedding.tolist()), flush=True)
