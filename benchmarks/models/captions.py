"""The captions that are asked: real ones where there are any, else those of generated scenes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from vireo_client.captions import read_captions

from ..support import data_folder

FILE = Path("captions_vi") / "coco4k_vi_captions.jsonl"


@dataclass(frozen=True)
class Captions:
    """Texts for queries, and where they are from."""

    kind: str
    """`real` or `scenes`."""
    source: str
    """A description for the report."""
    texts: tuple[str, ...]

    def drawn(self, count: int, seed: int = 0) -> list[str]:
        """Return `count` texts in random order, of all lengths, again from the start at the end."""
        order = np.random.default_rng(seed).permutation(len(self.texts))
        return [self.texts[i] for i in np.resize(order, count)]


def load_captions(scenes: Path) -> Captions:
    """Read the real captions of the data folder, or those of a folder of scenes.

    Args:
        scenes: a folder that `write_scenes` wrote.
    """
    file = data_folder() / FILE
    if file.is_file():
        lines = file.read_text(encoding="utf-8").splitlines()
        texts = [caption for line in lines for caption in json.loads(line)["captions"]]
        return Captions("real", f"{FILE.stem}, {len(texts):,} real captions", tuple(texts))
    texts = [caption for record in read_captions(scenes).records for caption in record.captions]
    return Captions("scenes", f"{len(texts):,} captions of generated scenes", tuple(texts))
