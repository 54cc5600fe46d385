"""Sound indexes to damage, and what they answer."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from support.small_index import new_image, unit, write_small_bundle
from vireo_client.bundle import Bundle
from vireo_client.index import Index, IndexWriter
from vireo_client.index.kinds import SearchSettings

_ENOUGH = 1000
"""Embeddings that every structure can be built from."""
Answers = dict[str, Any]


def make(folder: Path, bundle: Bundle, kind: str) -> None:
    """Write the sound index: two segments, removed rows, captions, metadata, and a journal."""
    count = _ENOUGH if kind in ("ivf", "ivfpq", "rabitq") else 80
    with IndexWriter(folder, bundle) as writer:
        writer.add(
            [
                new_image(f"/p/{n}.jpg", n + 1, captions=n % 3)._replace(
                    fields={"make": "Canon", "note": f"ghi chú {n}", "iso": n}
                )
                for n in range(count)
            ]
        )
        writer.compact(kind, 0.9)
        writer.add([new_image(f"/p/{n}.jpg", n + 1, captions=1) for n in range(count, count + 5)])
        writer.remove([f"/p/{n}.jpg" for n in range(4)])
        writer.save()
    if os.fork():
        os.wait()
        return
    writer = IndexWriter(folder, bundle)  # as a killed one leaves it
    writer.add([new_image("/p/new.jpg", 9001, captions=1)])
    os._exit(0)


def ask(folder: Path, bundle: Bundle) -> Answers:
    """Return what an index answers to questions of every kind."""
    numbers = [*range(0, 80, 4), 82]
    queries = np.stack([unit(n + 1) for n in numbers])
    of_captions = np.stack([unit(1000 * (n + 1)) for n in numbers])
    with Index(folder, bundle) as index:
        found = {
            "count": [len(index), index.captions],
            "images": index.search_images(queries, 4),
            "exact": index.search_images(queries, 4, search=SearchSettings(exact=True)),
            "filtered": index.search_images(queries, 4, filter="iso < 40"),
            "captions": index.search_captions(of_captions, 3),
            "words": [index.search_words(text, 5) for text in ("ghi chú 7", "câu 1", "new")],
        }
        ids = sorted({int(i) for matches in found["exact"] for i in matches.ids})
        held = index.embeddings(ids)
        found["embeddings"] = [np.round(held[i], 4).tolist() for i in ids if i in held]
    return {
        name: [m.to_dicts() if hasattr(m, "to_dicts") else m for m in answer]
        for name, answer in found.items()
    }


def rounded(answers: Answers) -> str:
    """Return answers as a text that hangs neither on the last digits of a score nor on the order of
    an image's fields."""
    return json.dumps(
        json.loads(json.dumps(answers), parse_float=lambda n: round(float(n), 3)), sort_keys=True
    )


class Sound:
    """A sound index of one kind, its bundle, and the answers that are right."""

    def __init__(self, place: Path, kind: str) -> None:
        self.kind, self.folder = kind, place / kind
        self.bundle = write_small_bundle(place / "model_repository")
        make(self.folder, self.bundle, kind)
        again = place / f"{kind}-again"
        shutil.copytree(self.folder, again)
        # Before and after a writer took the journal over: it may be lost, but not half of it.
        self.right = [rounded(ask(self.folder, self.bundle))]
        with IndexWriter(again, self.bundle):
            pass
        self.right.append(rounded(ask(again, self.bundle)))
        shutil.rmtree(again)
