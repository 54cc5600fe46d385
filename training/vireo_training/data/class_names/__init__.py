"""The names of the classes of an image tower's classifier, in Vietnamese.

A tower that was trained to classify 1,000 things has a weight vector for each of them, in the space
of its features. The name of a thing is then a caption, and its weight vector the direction of the
images that it describes: a pair more to learn words from, for each class, where photos are few.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from vireo_client.errors import TrainingError

KNOWN = ("imagenet-1k",)


def read_class_names(source: str) -> list[tuple[str, ...]]:
    """Read the names of a classifier's classes, in its order.

    Args:
        source: one of `KNOWN`, or the path of a text file (UTF-8) with a line for each class; `|`
            parts names of one class.

    Raises:
        TrainingError: there is no such file, it is not UTF-8, or a class has no name.
    """
    file = resources.files(__name__) / f"{source}.txt" if source in KNOWN else Path(source)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(
            f"class_names {source}: cannot be read ({error}); give one of {', '.join(KNOWN)} or a "
            "text file with a line for each class"
        ) from error
    names = []
    for number, line in enumerate(text.splitlines(), 1):
        name = tuple(part.strip() for part in line.split("|") if part.strip())
        if not name:
            raise TrainingError(f"class_names {source}: line {number} holds no name")
        names.append(name)
    return names
