"""What a run that goes on has to keep to, and whether it did: by its record, its summary, and what was seen from outside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from edgeprune.evaluate.record_figures import BucketFigures, figures_of
from edgeprune.evaluate.record_rows import RunRecord
from edgeprune.lab.endurance.watching import Sample

MOST_GROWTH = 0.02  # of the memory, after the first minute
MOST_TAIL = 1.5  # p99 over p50 of a bucket
FEWEST = 300  # frames of a bucket for a p99: three are slower
MOST_GAP_S = 5.0  # between two pictures of the page
MINUTE_S = 60.0
UNFINISHED_BYTES = 2_000_000  # of a video: its last half second, written while the file is ended


@dataclass(frozen=True)
class Seen:
    """A run as it was seen.

    Attributes:
        samples: in order; times from the first of them on.
        record: its rows.
        summary: as `run --json` gives it.
        exit_code: of the process.
        pictures, broken, disordered, longest_gap_s, failures: of the viewer, see `Player`.
        faults: that the page told of at the end.
        keep_bytes: that each folder may have.
        quiet: whether nothing else used the machine.
    """

    samples: Sequence[Sample]
    record: RunRecord
    summary: Mapping[str, Any]
    exit_code: int
    pictures: int
    broken: int
    disordered: int
    longest_gap_s: float
    failures: Sequence[str]
    faults: int
    keep_bytes: int
    quiet: bool


@dataclass(frozen=True)
class Check:
    """One line: what is asked, what was found, whether it holds. `asked`: False where the machine was not quiet."""

    what: str
    wanted: str
    found: str
    holds: bool
    asked: bool = True

    @property
    def verdict(self) -> str:
        return "held" if self.holds else "failed" if self.asked else "not asked"

    def line(self) -> str:
        return f"{self.what}: {self.found}; expected {self.wanted}"


def check(seen: Seen) -> list[Check]:
    """All of them."""
    return [ended(seen), memory(seen), rows(seen), drops(seen), *tails(seen), viewer(seen), disk(seen)]


def growth(samples: Sequence[Sample]) -> tuple[float, float] | None:
    """Memory in the second minute and in the last, medians in 1e6 bytes; both within the time that there is. None where there
    are too few samples for that."""
    first_s, last_s = samples[0].at_s, samples[-1].at_s
    minute_s = min(MINUTE_S, (last_s - first_s) / 3)
    early = [each.resident_mb for each in samples if minute_s <= each.at_s - first_s < 2 * minute_s]
    late = [each.resident_mb for each in samples if each.at_s > last_s - minute_s]
    return (median(early), median(late)) if early and late else None


def ended(seen: Seen) -> Check:
    """The run ended as it was told to, without a fault on the way."""
    summary = seen.summary
    found = f"exit code {seen.exit_code}, {summary['ended']}, {seen.faults} faults"
    holds = seen.exit_code == 0 and summary["ended"] == "finished" and not seen.faults
    return Check("end", "exit code 0, finished, 0 faults", found, holds)


def memory(seen: Seen) -> Check:
    what, wanted = "resident memory", f"less than {MOST_GROWTH:+.0%}"
    if (medians := growth(seen.samples)) is None:
        seconds = seen.samples[-1].at_s - seen.samples[0].at_s
        return Check(what, wanted, f"too few samples, {len(seen.samples)} in {seconds:.0f} s", holds=False)
    early_mb, late_mb = medians
    share = late_mb / early_mb - 1
    found = f"{early_mb:.1f} MB in the second minute, {late_mb:.1f} MB in the last: {share:+.2%}"
    return Check(what, wanted, found, share < MOST_GROWTH)


def rows(seen: Seen) -> Check:
    """Every frame that was processed has a row that can be read back."""
    frames, found = int(seen.summary["frames"]), len(seen.record)
    runs, notes = len(seen.record.begins), len(seen.record.notes)
    text = f"{found} rows of {frames} frames, in {runs} run{'s' * (runs != 1)}, {notes} damaged"
    return Check(
        "record", "a row for each frame, in one run, 0 damaged", text, found == frames and runs == 1 and not notes
    )


def drops(seen: Seen) -> Check:
    """Three counts that are kept apart: the source numbers what it offers, the capture counts what it drops, the loop what it
    processes. Row by row, too."""
    index, dropped = seen.record.whole["index"], seen.record.whole["dropped"]
    offered, frames, lost = (int(seen.summary[name]) for name in ("offered", "frames", "dropped"))
    steps = np.diff(index, prepend=-1) - 1
    wrong = int((steps != dropped).sum())
    found = f"{offered} offered, {frames} processed, {lost} dropped; {wrong} rows whose index says otherwise"
    holds = offered - frames == lost == int(dropped.sum()) and not wrong
    return Check("drops", "offered - processed = dropped, 0 rows", found, holds)


def tails(seen: Seen) -> list[Check]:
    """p99 over p50 of each bucket that had enough frames."""
    return [_tail(bucket, seen.quiet) for bucket in figures_of(seen.record).buckets if bucket.frames >= FEWEST]


def _tail(bucket: BucketFigures, quiet: bool) -> Check:
    p50, p99 = bucket.latency_ms.p50, bucket.latency_ms.p99
    assert p50 is not None and p99 is not None
    found = f"p99 {p99:.1f} / p50 {p50:.1f} ms = {p99 / p50:.2f}, {bucket.frames} frames"
    return Check(
        f"latency, {bucket.bucket}", f"less than {MOST_TAIL:g} on a quiet machine", found, p99 / p50 < MOST_TAIL, quiet
    )


def viewer(seen: Seen) -> Check:
    """It played all the time; fewer pictures than frames are as it should be."""
    found = (
        f"{seen.pictures} pictures, longest gap {seen.longest_gap_s:.1f} s, {seen.broken} broken, "
        f"{seen.disordered} out of order, {len(seen.failures)} failures"
    )
    if seen.failures:
        found += f" (the first: {seen.failures[0]})"
    holds = seen.pictures > 0 and seen.longest_gap_s < MOST_GAP_S
    holds = holds and not (seen.broken or seen.disordered or seen.failures)
    return Check("viewer", f"pictures, no gap of {MOST_GAP_S:g} s, 0 broken, 0 out of order, 0 failures", found, holds)


def disk(seen: Seen) -> Check:
    most = {
        name: max(each.bytes_of[name] for each in seen.samples)
        for name in sorted(seen.samples[-1].bytes_of, reverse=True)
    }
    found = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in most.items())
    bound = seen.keep_bytes + UNFINISHED_BYTES
    return Check(
        "disk",
        f"at most {seen.keep_bytes / 1e6:g} MB each, and {UNFINISHED_BYTES / 1e6:g} of a video's file that ends",
        f"{found} at most",
        all(0 < size <= bound for size in most.values()),
    )
