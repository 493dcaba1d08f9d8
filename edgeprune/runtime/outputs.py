"""Where the frames and rows of a run go: its sinks, all of them together, and the ledger."""

import logging
import threading
import time
from collections.abc import Iterable, Mapping

from edgeprune.base.ending import held
from edgeprune.base.errors import RunError
from edgeprune.runtime.about import About
from edgeprune.runtime.cameras.source import Frame, FrameSource
from edgeprune.runtime.row import LEDGER_ROWS, Ledger, Row, milliseconds
from edgeprune.runtime.sinks import SINKS, Sink, outputs_of
from edgeprune.runtime.sinks.segments import KEEP_BYTES
from edgeprune.runtime.tasks import Result

logger = logging.getLogger(__name__)


class Outputs:
    """The sinks of a run. A frame is in all that write, and in the ledger, or in none, but where a disk is full.

    Args:
        names: of the outputs, by their keys in SINKS.
        source: whose frames they take.
        keep_bytes: that each of those without an end may take of the disk.
        shared: sinks by their keys that are there already, and of several cameras.
        most_rows: that the ledger holds.

    Attributes:
        ledger: the rows, of a long run the newest, and sums of all.
        own_ms: what they took for themselves until now: all but drawing and encoding.
        beside_ms: what the last frame took beside the graphs of the next: nothing here.

    Raises:
        InputError: one of them can't be written; nothing of the others is left.
    """

    def __init__(
        self,
        names: Mapping[str, str],
        source: FrameSource,
        keep_bytes: int = KEEP_BYTES,
        shared: Mapping[str, Sink] | None = None,
        most_rows: int = LEDGER_ROWS,
    ):
        outputs_of(names)
        self.ledger = Ledger(most_rows)
        self.own_ms = self.beside_ms = 0.0
        self._ended = False
        self._one_at_a_time = threading.Lock()  # a hard stop ends the sinks from another thread
        self._sinks: dict[str, Sink] = {}
        try:
            for key in SINKS:  # in its order
                if shared and key in shared:
                    self._sinks[key] = shared[key]
                elif key in names:
                    self._sinks[key] = SINKS[key].open(names[key], source)
                    self._sinks[key].bound(keep_bytes)
        except BaseException:
            self.discard()
            raise
        kinds = [(SINKS[key], sink) for key, sink in self._sinks.items()]
        self._called = [sink for kind, sink in kinds if kind.in_loop]
        self._shown = [sink for kind, sink in kinds if not (kind.in_loop or kind.writes)]
        self._written = [sink for kind, sink in kinds if kind.writes]

    def begin(self, first: Frame) -> None:
        """Readies the sinks for the first frame."""
        for sink in self._sinks.values():
            if sink.note:
                logger.info(sink.note)
            sink.begin(first)

    def learn(self, about: About) -> None:
        """What the run is of, before `begin`; then that another bundle runs from here on, of the same classes."""
        for sink in self._sinks.values():
            sink.learn(about)

    def wait_for_place(self) -> None:
        """Waits until another frame may be begun: here none is in the way."""

    def wait_no_more(self) -> None:
        """Who waits for a place waits no more."""

    def add(self, result: Result, row: Row) -> Row:
        """Hands a frame to every sink, then to the ledger. A signal waits until it is in all of them.

        Returns:
            the row, with what the sinks took.

        Raises:
            RunError: a sink can't take it. It is in those before, and not in the ledger.
        """
        start_ns = time.monotonic_ns()
        row = self.tell(result, row)
        with held():
            row = self.write(result, row)
        self.own_ms += milliseconds(start_ns, time.monotonic_ns()) - taken_ms(row)
        return row

    def tell(self, result: Result, row: Row) -> Row:
        """The first half of `add`, in which a signal may come: the sinks that write nothing. Raises as `add`."""
        return self._show(result, self._call(result, row))

    def _call(self, result: Result, row: Row) -> Row:
        """Those that belong to the loop's thread; the row, with what they took."""
        return _hand(self._called, result, row)

    def _show(self, result: Result, row: Row) -> Row:
        """Those that write nothing: one that hangs keeps nobody from ending the others."""
        return _hand(self._shown, result, row)

    def write(self, result: Result, row: Row) -> Row:
        """The other half, in which a signal is held: the sinks that write, and the ledger. Raises as `add`."""
        with self._one_at_a_time:
            if not self._ended:  # else nobody waited for this frame
                row = _hand(self._written, result, row)
                self.ledger.add(row)
        return row

    def drain(self) -> None:
        """Waits until all frames are in the outputs, as they are here."""

    def end(self, failed: bool) -> None:
        """Gives the files their final names, or leaves them under their partial ones; each whatever the others do. Without a
        frame nothing takes a name, which may be that of an earlier run's.

        A second time it does nothing; it may come from another thread (a hard stop).

        Raises:
            RunError: one of them can't be ended as it should; where several can't, all reasons.
        """
        failures: list[str] = []
        with self._one_at_a_time:
            self._ended = True
            failed = failed or not self.ledger.frames
            for sink in reversed(self._sinks.values()):
                try:
                    sink.abandon() if failed or failures else sink.close()
                except RunError as error:
                    failures.append(str(error))
        if failures:
            raise RunError("; ".join(failures))

    def discard(self) -> None:
        """Removes what was begun: no frame was processed."""
        for sink in self._sinks.values():
            sink.abandon()

    def paths(self) -> dict[str, str | None]:
        """Where the outputs are once they are ended, the record first; None for one that isn't, or isn't any more."""
        sinks = {key: self._sinks.get(key) for key, kind in reversed(SINKS.items()) if kind.writes}
        return {key: str(sink.kept) if sink and sink.kept else None for key, sink in sinks.items()}


def taken_ms(row: Row) -> float:
    """What drawing and encoding took of a frame."""
    return (row.overlay_ms or 0.0) + (row.encode_ms or 0.0)


def _hand(sinks: Iterable[Sink], result: Result, row: Row) -> Row:
    """A frame to one sink after the other; the row, with what they took."""
    for sink in sinks:
        row = sink.add(result, row)
    return row
