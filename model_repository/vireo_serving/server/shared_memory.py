"""The shared memory through which Triton's Python backend passes tensors."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from vireo_client.errors import ServerError
from vireo_client.held import HeldFolder, remove_abandoned

_PREFIX = "vireo_"


class SharedMemory:
    """The regions of one server, below a name that no other server has.

    An empty folder of that name stands for the server: it is held while the server lives. The
    regions of a server that was killed are removed by the next one.

    Raises:
        ServerError: the folder of shared memory cannot be written.
    """

    def __init__(self, folder: Path = Path("/dev/shm")) -> None:
        self._folder = folder
        for abandoned in remove_abandoned(folder, _PREFIX):
            self._remove(abandoned.name)
        try:
            self._held = HeldFolder(folder, _PREFIX)
        except OSError as error:
            raise ServerError(
                f"{folder}: cannot be written ({error.strerror}); Triton's Python backend needs "
                "shared memory there"
            ) from None

    @property
    def prefix(self) -> str:
        """What the names of the regions begin with."""
        return f"{self._held.path.name}_"

    def size(self) -> int:
        """Return the bytes that the regions take."""
        total = 0
        for region in self._folder.glob(f"{self.prefix}*"):
            with suppress(FileNotFoundError):
                total += region.stat().st_blocks * 512
        return total

    def clear(self) -> None:
        """Remove the regions: a process that was killed leaves its own behind."""
        self._remove(self._held.path.name)

    def close(self) -> None:
        """Remove the regions and give the name back; calling it twice does no harm."""
        self.clear()
        self._held.close()

    def _remove(self, name: str) -> None:
        for region in self._folder.glob(f"{name}_*"):
            with suppress(FileNotFoundError):
                region.unlink()
