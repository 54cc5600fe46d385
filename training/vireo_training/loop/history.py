"""The history of a run: one line an epoch, on disk and on the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vireo_client.files import replacing_file
from vireo_client.progress import note


def write_history(out: Path, history: list[dict[str, Any]]) -> None:
    """Write `out/history.jsonl`; a reader sees the old file or the new one."""
    with replacing_file(out / "history.jsonl") as file:
        file.write("".join(json.dumps(line) + "\n" for line in history).encode())


def print_epoch(line: dict[str, Any], epochs: int) -> None:
    """Print one line of the history, out of `epochs`."""
    parts = [f"epoch {line['epoch']:>3}/{epochs}"]
    parts += [f"loss {line['loss']:.3f}"] if "loss" in line else []
    parts += [f"validation {line['validation_loss']:.3f}"] if "validation_loss" in line else []
    for way, label in (("text_to_image", "text->image"), ("image_to_text", "image->text")):
        if way in line:
            figures = line[way]
            parts.append(
                f"{label} R@1 {figures['recall_at_1']:.3f} R@10 {figures['recall_at_10']:.3f}"
            )
    if "seconds" in line:
        parts.append(f"{line['seconds']:.1f} s ({line['waiting']:.0%} waiting)")
    note("  ".join(parts))


def flatten(nested: dict[str, Any], separator: str) -> dict[str, Any]:
    """Return a dictionary of dictionaries as one, its keys joined by `separator`.

    An empty dictionary is a value.
    """
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict) and value:
            inner = flatten(value, separator)
            flat |= {f"{key}{separator}{name}": each for name, each in inner.items()}
        else:
            flat[key] = value
    return flat
