"""A row of a run's record: what is known of one frame; and the rows of a run in memory."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeprune.runtime.remembered_tokens import MemorySums, RememberedTokens
from edgeprune.runtime.thing_counts import ThingCounts

STAGES = ("fit", "trunk", "choose", "tail", "overlay", "encode")
# Times of a row are rounded to as much, in a file and in memory alike, so that both give the very same figures.
DIGITS = 4  # of a millisecond
LEDGER_ROWS = 50_000  # that are held in memory: an hour of 15 frames a second
MS_COLUMNS = ("wait_ms", *(f"{stage}_ms" for stage in STAGES), "latency_ms", "loop_ms")
NS_COLUMNS = ("capture_ns", "start_ns", "end_ns")
# what a ledger holds of a row. Milliseconds in units of the last digit, -1: None; a disk that hangs, and the next frame of a
# time-lapse, take longer than 32 bits hold. Watts: NaN for None. Buckets by their numbers.
HELD = np.dtype(
    [
        *((column, np.int64) for column in (*MS_COLUMNS, *NS_COLUMNS)),
        ("watts", np.float32),
        ("asked", np.uint16),
        ("bucket", np.uint16),
    ]
)


@dataclass(frozen=True)
class Row:
    """One frame of a run. Its fields are the columns of a record, in this order.

    Attributes:
        index: of the frame in its source, from 0; dropped frames are counted.
        name: of the frame, where it has one: an image's file name.
        capture_ns: when its camera's driver captured it, or where none says, when it was decoded and due, by the monotonic
            clock.
        presentation_s: when a player shows it, from the start of its file; None where there are no such times.
        start_ns, end_ns: frame in hand, labels in hand, by the monotonic clock.
        wait_ms: for the frame.
        fit_ms, trunk_ms, choose_ms, tail_ms: the stages from start to end.
        overlay_ms: drawing; None where nothing is drawn.
        encode_ms: what the outputs take besides: encoding, writing of label maps, a function that is called; None without.
        latency_ms: from start to end, waiting in between included.
        asked: the bucket that the frame asked for.
        bucket: the one that it got: a smaller one where a budget left no more.
        tokens: processed, summed over the blocks.
        confidence: mean over the frame's pixels, 0 to 1; None where the bundle was built without.
        dropped: frames lost since the row before.
        watts: power of the machine when the frame was done, the mean of the meter's last second; None where none shows it.
        celsius: of the machine's hottest part, read every few seconds; None where it has no such sensor.
        loop_ms: what the loop itself took since the row before, in all its threads: neither a stage nor waiting; None where
            nobody measured it.
        things: how many of each class there are, by its name, those of which there is one; None of a task that counts none.
        live: whether the source is: one that is not is read ahead, and its frames have no age. None where nobody said so.
        computed, carried, refreshed: where the frames before are remembered, the tokens of the grid that were computed, those
            that were not, and of the first those whose turn it was; None of a frame by itself.
        cameras: how many the run has, where they are several: `watts` are of the machine, which computes the frames of all.
    """

    index: int
    name: str | None
    capture_ns: int
    presentation_s: float | None
    start_ns: int
    end_ns: int
    wait_ms: float
    fit_ms: float
    trunk_ms: float
    choose_ms: float
    tail_ms: float
    overlay_ms: float | None
    encode_ms: float | None
    latency_ms: float
    asked: str
    bucket: str
    tokens: int
    confidence: float | None
    dropped: int
    watts: float | None = None
    celsius: float | None = None
    loop_ms: float | None = None
    things: Mapping[str, int] | None = None
    live: bool | None = None
    computed: int | None = None
    carried: int | None = None
    refreshed: int | None = None
    cameras: int | None = None

    @property
    def remembered(self) -> RememberedTokens | None:
        """The last three together."""
        if self.computed is None or self.carried is None or self.refreshed is None:
            return None
        return RememberedTokens(self.computed, self.carried, self.refreshed)

    def after_encoding(self, milliseconds: float) -> "Row":
        """The row with so much more of `encode_ms`."""
        return replace(self, encode_ms=round((self.encode_ms or 0.0) + milliseconds, DIGITS))


def milliseconds(start_ns: int, end_ns: int) -> float:
    """The time between two readings of the monotonic clock, rounded as in a record."""
    return round((end_ns - start_ns) / 1e6, DIGITS)


class Ledger:
    """What a summary needs of the rows of a run: sums over all, and the newest of them column by column, 104 bytes a row.

    A run may last for months, and what it holds in memory should not grow meanwhile: room for `most_rows` is taken at the start
    (5 MB), and a row more takes the place of the oldest.

    Attributes:
        frames, dropped, tokens: of all rows: how many there are, and the sums of two columns.
        offered: frames that the source gave until the last row's, that one included, by its index.
        first_ns, last_ns: from the start of the first to the end of the last; 0 without one.
        things, memory: of all rows.
    """

    def __init__(self, most_rows: int = LEDGER_ROWS) -> None:
        self.frames = self.dropped = self.tokens = self.offered = 0
        self.first_ns = self.last_ns = 0
        self.things, self.memory = ThingCounts(), MemorySums()
        self._bucket_frames: Counter[str] = Counter()
        self._rows = np.empty(most_rows, HELD)
        self._rows.fill(0)  # takes the pages now
        self._names: list[str] = []

    def add(self, row: Row) -> None:
        """Keeps a row."""
        values: list[float | None] = [getattr(row, column) for column in MS_COLUMNS]
        self._rows[self.frames % len(self._rows)] = (
            *(-1 if value is None else round(value * 10**DIGITS) for value in values),
            *(getattr(row, column) for column in NS_COLUMNS),
            math.nan if row.watts is None else row.watts,
            self._number(row.asked),
            self._number(row.bucket),
        )
        self._sum(row)

    def _number(self, bucket: str) -> int:
        if bucket not in self._names:
            self._names.append(bucket)
        return self._names.index(bucket)

    def _sum(self, row: Row) -> None:
        self.first_ns = self.first_ns if self.frames else row.start_ns
        self.last_ns = row.end_ns
        self.frames += 1
        self.offered = row.index + 1
        self.dropped += row.dropped
        self.tokens += row.tokens
        self._bucket_frames[row.bucket] += 1
        self.things.add(row.things)
        if row.remembered:
            self.memory.add(row.remembered)

    def _column(self, name: str) -> npt.NDArray[Any]:
        """Of the rows that are held, the oldest first."""
        oldest = self.frames % len(self._rows) if self.frames > len(self._rows) else 0
        column = self._rows[name]
        return np.concatenate((column[oldest:], column[:oldest]))[: len(self)]

    def ms(self, column: str) -> npt.NDArray[np.float64]:
        """One of MS_COLUMNS, in milliseconds, NaN where a row has none."""
        units = self._column(column)
        return np.where(units < 0, np.nan, units / 10**DIGITS)

    def ns(self, column: str) -> npt.NDArray[np.int64]:
        """`capture_ns`, `start_ns` or `end_ns`."""
        return self._column(column)

    def watts(self) -> npt.NDArray[np.float64]:
        """Of each row, NaN where it has none."""
        return self._column("watts").astype(np.float64)

    def capped(self) -> npt.NDArray[np.bool_]:
        """Which rows got another bucket than they asked for."""
        different: npt.NDArray[np.bool_] = self._column("asked") != self._column("bucket")
        return different

    def buckets(self) -> dict[str, int]:
        """How many frames of all each bucket had, by its name."""
        return dict(sorted(self._bucket_frames.items()))

    def __len__(self) -> int:
        """The rows that are held: the newest."""
        return min(self.frames, len(self._rows))
