"""The `model.py` of each Python-backend model: one file of this package."""

from __future__ import annotations

from pathlib import Path

from vireo_client.repository import (
    IMAGE_MODEL,
    MASK_ROWS,
    PREPROCESS_IMAGE,
    PREPROCESS_TEXT,
    TEXT_MODEL,
)

FOLDER = Path(__file__).parent
"""The folder of the files."""
FILES = {
    TEXT_MODEL: "onnx_tower.py",
    IMAGE_MODEL: "onnx_tower.py",
    PREPROCESS_TEXT: "preprocess_text.py",
    PREPROCESS_IMAGE: "preprocess_image.py",
    MASK_ROWS: "mask_rows.py",
}
"""File names by model names."""


def write_model_file(model: str, folder: Path) -> None:
    """Write `model.py` of a Python-backend model into its version folder.

    Args:
        model: one of `FILES`.
        folder: the version folder. A `model.py` there is replaced, not written through: it may be
            a link.
    """
    path = folder / "model.py"
    path.unlink(missing_ok=True)
    path.write_bytes((FOLDER / FILES[model]).read_bytes())
