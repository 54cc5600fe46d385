"""Changes of an index that are not saved yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import DataError
from .changes import Move, NewImage
from .columns import moved_fields
from .committed import Committed
from .rows import FileStamp


class Pending:
    """Changes since the last save, by path, and what the index holds with them.

    Args:
        committed: what is saved.
    """

    def __init__(self, committed: Committed) -> None:
        self._committed = committed
        self.added: dict[str, NewImage] = {}
        self.stamps: dict[str, tuple[int, FileStamp]] = {}
        """Ids of saved images that have another stamp now."""
        self._replaced: dict[str, int] = {}
        """Ids of saved images that leave if there is another of their path among `added`."""
        self._removed: dict[str, int] = {}
        """Ids of saved images that leave."""

    def __bool__(self) -> bool:
        return bool(self.added or self._removed or self.stamps)

    def gone(self) -> dict[str, int]:
        """Return the ids of all saved images that leave."""
        return self._removed | {p: i for p, i in self._replaced.items() if p in self.added}

    def images(self) -> int:
        """Count the images."""
        return self._committed.state.images - len(self.gone()) + len(self.added)

    def captions(self) -> int:
        """Count the captions."""
        gone = len(self._committed.catalogue.caption_ids(self.gone().values()))
        new = sum(len(image.captions) for image in self.added.values())
        return self._committed.state.captions - gone + new

    def stamp(self, path: str) -> FileStamp | None:
        """Return the stamp of an image, None where there is none of this path."""
        if path in self.added:
            return self.added[path].stamp
        saved = self._find_saved(path)
        return saved[1] if saved else None

    def _find_saved(self, path: str) -> tuple[int, FileStamp] | None:
        """Return id and stamp of a saved image that stays, replaced ones included."""
        if path in self._removed:
            return None
        return self.stamps.get(path) or self._committed.catalogue.stamp(path)

    def all_stamps(self) -> dict[str, FileStamp]:
        """Return the stamp of every image by its path."""
        stamps = self._committed.catalogue.stamps()
        stamps.update({path: stamp for path, (_, stamp) in self.stamps.items()})
        for path in self.gone():
            del stamps[path]
        stamps.update({path: image.stamp for path, image in self.added.items()})
        return stamps

    def saved_hashes(self) -> dict[str, str]:
        """Return the SHA-256 of the file of every saved image that stays, by its path."""
        hashes = self._committed.catalogue.hashes()
        for path in self.gone():
            del hashes[path]
        return hashes

    def add(self, images: Iterable[NewImage]) -> None:
        """Add images that were checked, replacing those of the same path."""
        images = list(images)
        saved = self._committed.catalogue.ids_of(image.path for image in images)
        for image in images:
            # In this order: an interruption in between loses no image.
            if image.path in saved and image.path not in self._removed:
                self._replaced[image.path] = saved[image.path]
            self.added[image.path] = image

    def move(self, moves: Sequence[Move]) -> None:
        """Give saved images new paths.

        Raises:
            DataError: no image of an old path is saved; nothing was moved.
        """
        catalogue = self._committed.catalogue
        images = []
        for move in moves:
            saved = self._find_saved(move.old)
            if saved is None:
                raise _not_indexed(move.old)
            id_, stamp = saved
            captions = catalogue.captions_of(id_)
            images.append(
                NewImage(
                    move.new,
                    catalogue.sha256(id_),
                    move.stamp._replace(captions=stamp.captions),
                    self._committed.embeddings("images", [id_])[0],
                    tuple(text for _, text in captions),
                    self._committed.embeddings("captions", [i for i, _ in captions]),
                    moved_fields(catalogue.fields_of(id_), move.old, move.new),
                )
            )
        # In this order: an interruption in between leaves an image twice, and loses none.
        self.add(images)
        self.remove([move.old for move in moves])

    def restamp(self, path: str, stamp: FileStamp) -> None:
        """Note another stamp of an image; without captions, it keeps those it has.

        Raises:
            DataError: there is no image of this path.
        """
        added, saved = self.added.get(path), self._find_saved(path)
        known = added.stamp if added else saved[1] if saved else None
        if known is None:
            raise _not_indexed(path)
        if not stamp.captions:
            stamp = stamp._replace(captions=known.captions)
        if added:
            self.added[path] = added._replace(stamp=stamp)
        elif saved:
            self.stamps[path] = (saved[0], stamp)

    def remove(self, paths: Iterable[str]) -> None:
        """Remove images.

        Raises:
            DataError: there is no image of such a path; nothing was removed.
        """
        saved = {path: self._find_saved(path) for path in paths}
        for path, row in saved.items():
            if row is None and path not in self.added:
                raise _not_indexed(path)
        for path, row in saved.items():
            if row is not None:
                self._removed[path] = row[0]
            self.added.pop(path, None)


def _not_indexed(path: str) -> DataError:
    return DataError(f"{path}: no image of this path is indexed; nothing was changed")
