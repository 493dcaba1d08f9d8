"""Outputs of lines: a file that is written line by line, or a folder of such files that has no end."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edgeprune.base.errors import RunError
from edgeprune.runtime.sinks.partial import PartialFile
from edgeprune.runtime.sinks.segments import Segments
from edgeprune.runtime.sinks.series import Series
from edgeprune.runtime.sinks.sink import Sink

SEGMENT_BYTES, SEGMENT_S = 16 * 10**6, 86_400.0  # of a folder's files, at most: hours of 15 frames a second, or a day


class LineFile(Sink):
    """Writes lines to `partial_path(path)` (numbered where it is taken), each as it comes, unbuffered: a process that is
    killed loses none. `close()` gives the file its final name.

    Attributes:
        partial: where the lines are until `close()`; after a failure they stay there, every one whole.

    Raises:
        InputError: the folder can't be written to.
        RunError: the disk is full.
    """

    def __init__(self, path: Path, what: str, header: str = ""):
        """`what`: how a message calls it; `header`: stands above the lines."""
        self.path = path
        self._output = PartialFile(path, what)
        self.partial, self._file = self._output.partial, self._output.file
        self._whole_bytes = self._lines = 0
        self._put(header)

    @property
    def kept(self) -> Path | None:
        return self._output.kept

    @property
    def size(self) -> int:
        """Its bytes."""
        return self._whole_bytes

    def fileno(self) -> int:
        """The descriptor of the open file."""
        return self._file.fileno()

    def write_line(self, line: str) -> None:
        """Appends a line, its end included.

        Raises:
            RunError: the disk is full.
        """
        self._put(line)
        self._lines += 1

    def _put(self, text: str) -> None:
        data = text.encode(errors="backslashreplace")  # a file may have a name that is no text
        done = 0
        try:
            while done < len(data):
                done += self._file.write(data[done:]) or 0
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._whole_bytes)  # half a line is none
            self._close_here()
            raise RunError(
                f"cannot write on to {self.path} ({error.strerror}); free some space or name another folder, and run again"
            ) from error
        self._whole_bytes += done

    def _close_here(self) -> None:
        """Ends the file after a failure; one without a line goes."""
        if not self._lines:
            self._output.remove()
            return
        with suppress(OSError):
            self._file.close()

    def close(self) -> None:
        """Ends the file and renames it to its final name; does nothing after a failure or a second time.

        Raises:
            RunError: it can't be renamed, or is gone.
        """
        if not self._file.closed:
            self._output.finish(self.path)

    def abandon(self) -> None:
        """Ends the file but leaves it under its partial name: the run failed. Without a row it goes.

        Raises:
            RunError: it is gone.
        """
        if self._lines and not self._file.closed:
            self._output.finish(self.partial)
        elif not self._file.closed:
            self._close_here()


class LineFolder(Series[LineFile]):
    """Writes lines to the files of a folder, without an end: a new one after SEGMENT_BYTES or SEGMENT_S; the oldest go.

    A line is with the kernel before the next frame: a process that is killed loses none. It is on the disk SYNC_S later: a
    power cut loses as much.

    Raises:
        InputError: the folder can't be written to.
    """

    def __init__(self, segments: Segments, begin: Callable[[Path], LineFile]):
        """`begin`: a new file of that name."""
        super().__init__(segments)
        self._begin = begin
        self._until_s = 0.0

    def write_line(self, line: str) -> None:
        """Appends a line, its end included.

        Raises:
            RunError: the disk is full or broken, or the oldest file can't be removed.
        """
        self._make_room()
        file = self._part
        full = file and file.size >= min(SEGMENT_BYTES, self._segments.segment_bytes)
        if file is None or full or time.monotonic() >= self._until_s:
            file = self._next(self._begin)
            self._segments.follow(file.fileno())
            self._until_s = time.monotonic() + SEGMENT_S
        file.write_line(line)
        self._wrote()
