"""What has to hold after a fault: of the record, of the video, of what the run said, and of what it left behind."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeprune.base.errors import EdgepruneError
from edgeprune.base.files import PARTIAL
from edgeprune.evaluate.record_figures import figures_of
from edgeprune.evaluate.record_rows import read_record
from edgeprune.lab.faults.child import Child, Row
from edgeprune.runtime.cameras.pyav import load_av

LOST_S = 1.0  # of a video, at most
END_S = 2.0  # that processes which a run started may live longer than it
NEVER = ("Traceback", "Fatal Python", "Exception ignored", "Segmentation", "core dumped", "never awaited")


def check_record(child: Child, before: Sequence[bytes]) -> Iterator[str]:
    """Every line that was there before the fault is there, and the product's own reader reads all of them.

    before: the whole lines, headers included, as they were read just before it.
    """
    lines = child.lines()
    lost = len(set(before) - set(lines))
    if lost:
        yield f"{lost} of {len(before)} lines that were written before are gone"
    rows = child.rows()
    paths = [child.outputs / "rows"] if (child.outputs / "rows").is_dir() else child.record_files()
    read = 0
    for path in paths:
        try:
            record = read_record(path)
            figures_of(record)
            read += len(record)
        except EdgepruneError as error:
            yield f"report: {error}"
    if read != len(rows):
        yield f"report reads {read} rows of {len(rows)}"


def check_rows(rows: Sequence[Row]) -> Iterator[str]:
    """Of one run: times are in order, and each frame that was offered is a row or counted as dropped."""
    last_ns = last_index = -1
    for row in rows:
        index, start_ns, end_ns = int(row["index"]), int(row["start_ns"]), int(row["end_ns"])
        if not last_ns <= start_ns <= end_ns or not int(row["capture_ns"]) <= start_ns:
            yield f"row {index}: its times are out of order"
        if index != last_index + 1 + int(row["dropped"]):
            yield f"row {index} follows {last_index}, and {row['dropped']} were dropped"
        last_ns, last_index = end_ns, index
        if float(row["latency_ms"]) < 0 or float(row["wait_ms"]) < 0:
            yield f"row {index}: a time is less than nothing"


def check_video(child: Child, rows: Sequence[Row], fault_ns: int) -> Iterator[str]:
    """Videos open, and have all of what was before the fault but its last second."""
    av = load_av()
    shown = 0
    for path in child.video_files():
        try:
            with av.open(str(path)) as container:
                shown += sum(1 for _ in container.decode(video=0))
        except av.error.FFmpegError as error:
            if b"moof" in path.read_bytes():  # else it was just begun
                yield f"{path.name} can't be played ({error})"
    ends_ns = [int(row["end_ns"]) for row in rows if int(row["end_ns"]) <= fault_ns]
    expected = sum(end_ns < ends_ns[-1] - LOST_S * 1e9 for end_ns in ends_ns)
    if shown < expected:
        yield f"the video has {shown} frames, at least {expected} expected"


def check_words(child: Child, code: int) -> Iterator[str]:
    """No traceback; where it failed, one line that says why, at the end."""
    said = child.said
    for word in NEVER:
        if word in said:
            yield f"it said {word!r}"
    ours = [line for line in said.splitlines() if line.startswith("edgeprune: ")]
    if code in (2, 3) and not (len(ours) == 1 and child.last_line() == ours[0]):
        yield f"no single last line says why it ended: {child.last_line()!r}"
    if code in (0, -9) and ours:
        yield f"it ended with exit code {code}, and said {ours[0]!r}"


def check_summary(child: Child, rows: Sequence[Row], code: int, least_reconnects: int = 0) -> Iterator[str]:
    """It agrees with the record, and counts reconnections."""
    try:
        summary: dict[str, Any] = json.loads(child.printed)
    except ValueError:
        yield f"the summary is no JSON: {child.printed[:80]!r}"
        return
    if summary["frames"] != len(rows) or summary.get("dropped", 0) != sum(int(row["dropped"]) for row in rows):
        yield f"the summary has {summary['frames']} frames ({summary['dropped']} dropped), the record {len(rows)}"
    if least_reconnects and summary["camera"]["reconnects"] < least_reconnects:
        yield f"the summary counts {summary['camera']['reconnects']} reconnections, at least {least_reconnects} expected"
    ended = "failure" if code == 3 else "interrupted"
    if summary["ended"] != ended:
        yield f"ended {summary['ended']}, {ended} expected"
    for name in (summary.get("record"), summary.get("out")):
        if name is not None and not Path(name).exists():
            yield f"{name} of the summary is not there"
        if name is not None and code == 3 and Path(name).is_file() and PARTIAL not in name:
            yield f"{name} has its final name, though the run failed"


def check_left(child: Child, code: int, shared: set[str], read_only: bool = False) -> Iterator[str]:
    """No process, no temporary file and no lock."""
    until_s = time.monotonic() + END_S
    while (left := child.left_running()) and time.monotonic() < until_s:
        time.sleep(0.1)
    if left:
        yield f"{len(left)} processes are left"
    if found := sorted(path.name for path in child.temporary.rglob("*")):
        yield f"temporary files are left: {', '.join(found)}"
    if found := sorted(name for name in shared if Path(name).exists()):
        yield f"shared memory is left: {', '.join(found)}"
    names = [path.name for path in child.outputs.rglob("*") if path.is_file()]
    locks = [name for name in names if name.endswith(".lock")]
    if locks and code >= 0 and not read_only:  # of a process that was killed the kernel has let go of it
        yield f"locks are left: {', '.join(locks)}"


def check_names(child: Child) -> Iterator[str]:
    """Of a run that ended well, and none before it in the same folder."""
    names = [path.name for path in child.outputs.rglob("*") if path.is_file()]
    if found := [name for name in names if PARTIAL in name]:
        yield f"partial names are left: {', '.join(found)}"
