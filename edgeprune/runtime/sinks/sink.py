"""What every sink is to the rest of edgeprune: it takes the result and the row of each frame of a run."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edgeprune.runtime.about import About
from edgeprune.runtime.cameras.source import Frame, FrameSource
from edgeprune.runtime.row import Row
from edgeprune.runtime.sinks.split import file_of_camera
from edgeprune.runtime.tasks import Result


class Sink:
    """Where results go. A subclass says what it does with a frame, and what of the rest it needs.

    What it writes has a partial name until `close()`, which gives it its final one.

    Attributes:
        note: a line that a person should read before the first frame, or None.
    """

    note: str | None = None

    @property
    def kept(self) -> Path | None:
        """Where what it wrote lies now; None where it writes nothing, or there is nothing any more."""
        return None

    def learn(self, about: About) -> None:
        """Hears what the run is of, before `begin`, and again where another bundle runs: in the thread of the loop."""

    def bound(self, keep_bytes: int) -> None:
        """Hears how much of the disk an endless output may take, before `begin`; others have no use for it."""

    def begin(self, first: Frame) -> None:
        """Readies what depends on the first frame; it comes by `add`, too.

        Raises:
            InputError: its output can't be written.
        """

    def add(self, result: Result, row: Row) -> Row:
        """Takes a frame, as a whole or not at all.

        Returns:
            the row, with what the sink took added to `overlay_ms` or `encode_ms`; the next sink gets it.

        Raises:
            RunError: the frame can't be taken (a full disk); what was taken before stays readable.
        """
        return row

    def close(self) -> None:
        """Ends what was written and gives it its final name. After a failure, or a second time, it does nothing.

        Raises:
            RunError: it can't be ended or renamed, or is gone.
        """

    def abandon(self) -> None:
        """Ends what was written and leaves it under its partial name: the run failed. Without a frame it goes.

        Raises:
            RunError: it can't be ended, or is gone.
        """


class Output(NamedTuple):
    """What a sink writes: a file, or a folder that it has for itself; `endless`: of which it removes the oldest files."""

    path: Path
    folder: bool = False
    endless: bool = False


class SinkKind(NamedTuple):
    """A row of SINKS.

    Attributes:
        metavar, help: of the option of `run` that has the row's key.
        output: what a sink of that name writes; None: nothing. Raises InputError for a name that can't be, before anything
            is begun.
        open: the sink of that name, for the frames of a source. Raises InputError where it can't be written.
        writes: whether its sinks write anything. A frame is in all that do or in none, and the end of a run waits for it.
        in_loop: whether they stay in the thread of the loop, where others work beside it (`pipeline.py`); they come first.
        look: refuses a name as `output` does, but neither listens nor runs code that a person named; None: `output` does.
        name_for: from the name that a run gives and a camera's, what that camera's own output is called where there are
            several (`split.py`).
    """

    metavar: str
    help: str
    output: Callable[[str], Output | None]
    open: Callable[[str, FrameSource], Sink]
    writes: bool = True
    in_loop: bool = False
    name_for: Callable[[str, str], str] = file_of_camera
    look: Callable[[str], None] | None = None
