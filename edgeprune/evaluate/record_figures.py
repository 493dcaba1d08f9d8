"""What the rows of records say: figures of each, of each bucket, and how several compare."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeprune.base.statistics import Percentiles, percentiles
from edgeprune.evaluate.record_rows import RunRecord
from edgeprune.runtime.page.publisher import SILENT_FRAMES, SILENT_S
from edgeprune.runtime.remembered_tokens import MemoryFigures
from edgeprune.runtime.thing_counts import ThingFigures


@dataclass(frozen=True)
class BucketFigures:
    """The frames that got one bucket.

    Attributes:
        record, bucket: whose.
        share: of the record's frames.
        tokens: of a frame, the mean.
        watts: the mean of those rows that have it; None where none has.
    """

    record: str
    bucket: str
    frames: int
    share: float
    tokens: float
    latency_ms: Percentiles
    watts: float | None


@dataclass(frozen=True)
class RecordFigures:
    """A record; None where no row tells.

    Attributes:
        record: its path.
        began: when, where the names of its files say so.
        runs: that it has; another begins where a process was started anew.
        frames, dropped: processed, and lost between them.
        seconds: from the first start to the last end, summed over the runs.
        fps: frames over that time.
        latency_ms: frame in hand to labels in hand.
        age_ms: from the frame's capture to its labels, of rows whose source is live: others are read ahead.
        longest_gap_s: the longest time without labels, within a run: from one frame's labels to those of the next, whether the
            frame was waited for or the loop hung in it. A run's first counts from its start.
        watts: the mean over time, where rows have it.
        mj_per_frame: those times the time from a frame's start to that of the next; the last of a run to its end. Without the
            rows of a run of several cameras: the machine's energy is of the frames of all.
        hottest_c: the highest temperature of the machine in any row.
        silences: how many gaps are longer than SILENT_S, and than SILENT_FRAMES frames of the median latency: a camera that
            stalled or was lost, or a loop that hung; as the live page counts them.
        capped: share of frames that got another bucket than they asked for.
        buckets: of each.
        notes: what was left out of the record, or of these figures.
        things: of each class, by its name; None where no row counts any.
        memory: of the frames that remembered those before; None where none did.
    """

    record: str
    began: str | None
    runs: int
    frames: int
    dropped: int
    seconds: float
    fps: float | None
    latency_ms: Percentiles
    age_ms: Percentiles
    longest_gap_s: float
    watts: float | None
    mj_per_frame: float | None
    hottest_c: float | None
    silences: int
    capped: float
    buckets: tuple[BucketFigures, ...]
    notes: tuple[str, ...]
    things: Mapping[str, ThingFigures] | None = None
    memory: MemoryFigures | None = None


def figures_of(record: RunRecord) -> RecordFigures:
    """The figures of a record."""
    start_ns, end_ns, watts = record.whole["start_ns"], record.whole["end_ns"], record.real["watts"]
    seconds = sum(float(end_ns[last] - start_ns[first]) / 1e9 for first, last in spans(record))
    interval_s = intervals_s(record)
    gap_s = gaps_s(record)
    silent_s = max(SILENT_S, SILENT_FRAMES * float(np.median(record.real["latency_ms"])) / 1e3)
    known, celsius = ~np.isnan(watts), record.real["celsius"]
    alone = known & ~record.shared
    notes = [*record.notes]
    if (known & record.shared).any():
        notes.append(
            f"{record.path}: no mJ a frame of a run of several cameras, for watts are of the machine; `run --json` has that "
            "of all"
        )
    joules, known_s = watts * interval_s, float(interval_s[known].sum())
    return RecordFigures(
        record=str(record.path),
        began=record.began,
        runs=len(record.begins),
        frames=len(record),
        dropped=int(record.whole["dropped"].sum()),
        seconds=seconds,
        fps=len(record) / seconds if seconds > 0 else None,
        latency_ms=percentiles(record.real["latency_ms"]),
        age_ms=percentiles((end_ns - record.whole["capture_ns"])[record.live] / 1e6),
        longest_gap_s=float(gap_s.max()),
        watts=float(joules[known].sum()) / known_s if known_s else None,
        mj_per_frame=1000 * float(joules[alone].sum()) / int(alone.sum()) if alone.any() else None,
        hottest_c=float(np.nanmax(celsius)) if not np.isnan(celsius).all() else None,
        silences=int((gap_s > silent_s).sum()),
        capped=float((record.asked != record.bucket).mean()),
        buckets=tuple(_bucket(record, place) for place in by_tokens(record)),
        notes=tuple(notes),
        things=record.things,
        memory=record.memory,
    )


def spans(record: RunRecord) -> list[tuple[int, int]]:
    """The places of the first and the last row of each run."""
    ends = [*record.begins[1:], len(record)]
    return [(begin, end - 1) for begin, end in zip(record.begins, ends, strict=True)]


def intervals_s(record: RunRecord) -> npt.NDArray[np.float64]:
    """From the start of each frame to that of the next; of a run's last to its end."""
    start_ns = record.whole["start_ns"]
    after_ns = np.append(start_ns[1:], 0)
    for _, last in spans(record):
        after_ns[last] = record.whole["end_ns"][last]
    intervals: npt.NDArray[np.float64] = (after_ns - start_ns) / 1e9
    return intervals


def gaps_s(record: RunRecord) -> npt.NDArray[np.float64]:
    """From the labels of the frame before to those of each; of a run's first from its start. Together the time of all runs."""
    end_ns = record.whole["end_ns"]
    before_ns = np.append(0, end_ns[:-1])
    for first, _ in spans(record):
        before_ns[first] = record.whole["start_ns"][first]
    gaps: npt.NDArray[np.float64] = (end_ns - before_ns) / 1e9
    return gaps


def by_tokens(record: RunRecord) -> list[int]:
    """The places of the buckets that frames got, that of the fewest tokens first."""
    found = np.unique(record.bucket).tolist()
    return sorted(found, key=lambda place: float(record.whole["tokens"][record.bucket == place].mean()))


def _bucket(record: RunRecord, place: int) -> BucketFigures:
    of_it = record.bucket == place
    watts = record.real["watts"][of_it]
    watts = watts[~np.isnan(watts)]
    return BucketFigures(
        record=str(record.path),
        bucket=record.names[place],
        frames=int(of_it.sum()),
        share=float(of_it.mean()),
        tokens=float(record.whole["tokens"][of_it].mean()),
        latency_ms=percentiles(record.real["latency_ms"][of_it]),
        watts=float(watts.mean()) if len(watts) else None,
    )


def ratios(figures: Sequence[RecordFigures]) -> list[dict[str, str | float | None]]:
    """Each record's figures over those of the first: 2 is twice as much."""
    first = _compared(figures[0])
    found: list[dict[str, str | float | None]] = []
    for each in figures:
        of_it: dict[str, str | float | None] = {"record": each.record}
        for name, value in _compared(each).items():
            base = first[name]
            of_it[name] = value / base if value is not None and base else None
        found.append(of_it)
    return found


def _compared(figures: RecordFigures) -> Mapping[str, float | None]:
    times = {f"{name}_ms": getattr(figures.latency_ms, name) for name in ("p50", "p95", "p99")}
    return {"fps": figures.fps, **times, "watts": figures.watts, "mj_per_frame": figures.mj_per_frame}
