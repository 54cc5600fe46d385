"""What small systems do: PyTorch, then scikit-learn's cosine and a sort."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..load.loops import Ask
from .ours import K


@dataclass(frozen=True)
class TorchSearch:
    """A text tower in PyTorch, FP32, and a search by cosines and a sort.

    Args:
        bundle: the bundle's folder.
        vectors: the corpus as NPY; None returns the embedding alone.
        texts: what is searched for, in turn.
        compiled: whether `torch.compile` compiles the tower.
    """

    bundle: Path
    vectors: Path | None
    texts: tuple[str, ...]
    compiled: bool = False

    def open(self) -> Ask:
        """Load the tower and return the function that searches."""
        search = open_search(self.bundle, self.vectors, compiled=self.compiled)
        return lambda number: search(self.texts[number % len(self.texts)])


def open_search(
    bundle_folder: Path, vectors: Path | None, *, compiled: bool = False
) -> Callable[[str], Any]:
    """Return the function from a text to its ten rows, or to its embedding where none are given."""
    import torch
    from sklearn.metrics.pairwise import cosine_similarity
    from vireo_client.bundle import Bundle
    from vireo_client.text.pipeline import TextPath
    from vireo_training.models.bundle_writer import load_model

    bundle = Bundle(bundle_folder)
    path = TextPath.from_bundle(bundle)
    tower = load_model(bundle).text_tower
    if compiled:
        tower = torch.compile(tower)
        for bucket in bundle.config.text.buckets[:2]:  # compiled for the lengths that are asked
            with torch.inference_mode():
                tower(torch.full((1, bucket), 2, dtype=torch.int32))
    corpus = None if vectors is None else np.load(vectors)

    def search(text: str) -> Any:
        ((_, ids),) = path.encode([text])
        with torch.inference_mode():
            embedding = tower(torch.from_numpy(ids)).numpy()
        if corpus is None:
            return embedding
        return np.argsort(-cosine_similarity(embedding, corpus)[0])[:K]

    return search
