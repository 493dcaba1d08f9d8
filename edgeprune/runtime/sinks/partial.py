"""What a sink writes, under its partial name until it has its final one; and where it lies meanwhile."""

from abc import ABC, abstractmethod
from contextlib import suppress
from io import FileIO
from pathlib import Path

from edgeprune.base.outputs import (
    OutputRemoved,
    create_partial,
    create_partial_folder,
    finish_partial,
    finish_partial_folder,
)


class Partial(ABC):
    """A file or a folder that is being written.

    Attributes:
        partial: its name until `finish`.
        kept: where it lies now; None where there is nothing any more.
    """

    def __init__(self, partial: Path):
        self.partial = partial
        self.kept: Path | None = partial

    @abstractmethod
    def _rename(self, name: Path) -> None:
        """Closes it and gives it a name. Raises as `finish`."""

    def finish(self, name: Path) -> None:
        """Ends it and gives it `name`: its final one, or `partial` where it stays unfinished.

        Raises:
            RunError: something has taken the name; it is left as `partial`.
            OutputRemoved: another process removed or replaced it.
        """
        try:
            self._rename(name)
        except OutputRemoved:
            self.kept = None
            raise
        self.kept = name


class PartialFile(Partial):
    """A file, open as `file`. `what`: how a message calls it. Raises InputError where it can't be created."""

    def __init__(self, path: Path, what: str):
        partial, file = create_partial(path, what)
        super().__init__(partial)
        self.file: FileIO = file

    def _rename(self, name: Path) -> None:
        finish_partial(self.partial, self.file, name)

    def remove(self) -> None:
        """What holds nothing, or nothing that can be read, goes."""
        self.kept = None
        with suppress(OSError):
            self.file.close()
        with suppress(OSError):
            self.partial.unlink()


class PartialFolder(Partial):
    """A folder. `what`: how a message calls it. Raises InputError where it can't be made."""

    def __init__(self, path: Path, what: str):
        super().__init__(create_partial_folder(path, what))

    def _rename(self, name: Path) -> None:
        finish_partial_folder(self.partial, name)

    def remove(self) -> None:
        """An empty one goes."""
        self.kept = None
        with suppress(OSError):
            self.partial.rmdir()
