"""Outputs without an end: parts that follow each other in a folder, each as an output of one run; the oldest go."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from edgeprune.runtime.sinks.segments import Segments
from edgeprune.runtime.sinks.sink import Sink


class Part(Protocol):
    """`size`: its bytes until now; `close` and `abandon` as of a `Sink`."""

    @property
    def size(self) -> int: ...

    def close(self) -> None: ...

    def abandon(self) -> None: ...


APart = TypeVar("APart", bound=Part)


class Series(Sink, Generic[APart]):
    """A folder whose newest part is written.

    Attributes:
        kept: the folder; None where nothing was added, or where it is gone.
    """

    def __init__(self, segments: Segments):
        self._segments = segments
        self._part: APart | None = None
        self._added = 0  # frames

    @property
    def kept(self) -> Path | None:
        # a disk that was full from the first frame on has left none
        return self._segments.folder if self._added and self._segments.there else None

    def bound(self, keep_bytes: int) -> None:
        self._segments.keep_bytes = keep_bytes

    def _next(self, begin: Callable[[Path], APart]) -> APart:
        """Ends the part that is written, and begins the next; `begin`: one of that name."""
        if self._part is not None:
            self._part.close()
        path = self._segments.next_path()
        self._segments.make_room(0)  # a disk that is full has no place for a beginning either
        self._part = begin(path)
        return self._part

    def _make_room(self) -> None:
        """Before a frame is written, for others may have filled the disk meanwhile; and behind it, for all has a bound."""
        self._segments.make_room(self._part.size if self._part is not None else 0)

    def _wrote(self) -> None:
        """A frame was written. Raises RunError where one before did not get onto the disk, or the oldest can't be removed."""
        self._added += 1
        self._segments.raise_failure()
        self._make_room()

    def close(self) -> None:
        try:
            if self._part is not None:
                self._part.close()
        finally:
            self._segments.close()

    def abandon(self) -> None:
        try:
            if self._part is not None:
                self._part.abandon()
        finally:
            self._segments.close()
