"""Who takes the machine's processors: this process with all that it has started, or others (proc(5); Linux alone).

The kernel counts in ticks, USER_HZ of them a second of each processor.
"""

import os
from pathlib import Path
from typing import NamedTuple

LEAST_TICKS = 100  # of all processors, between two looks: of fewer a share would be chance


class Ticks(NamedTuple):
    """Since the machine was started.

    Attributes:
        whole: of all processors, whatever they did.
        busy: of these, in which a process ran, one of another virtual machine included.
        ours: of these, of this process and of all that descend from it.
    """

    whole: int
    busy: int
    ours: int


def processor_ticks(root: Path = Path("/")) -> Ticks | None:
    """As they are now; None where /proc is not there or does not tell. `root`: where /proc lies, for tests."""
    proc = root / "proc"
    try:
        first = (proc / "stat").read_bytes().split(b"\n", 1)[0].split()
        user, nice, system, idle, waiting, interrupts, soft, stolen = (int(word) for word in first[1:9])
        ours = _ours(proc)
    except (OSError, ValueError, LookupError):
        return None
    busy = user + nice + system + stolen
    return Ticks(busy + idle + waiting + interrupts + soft, busy, ours)


def _ours(proc: Path) -> int:
    """Ticks of this process and of its descendants: their own, and of each those that its ended ones had.

    Raises:
        LookupError, ValueError: this process is not there, or one is described otherwise.
    """
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for folder in proc.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            _, _, described = (folder / "stat").read_bytes().rpartition(b")")  # a name may hold anything
        except OSError:  # it has ended
            continue
        fields = described.split()
        parents[int(folder.name)] = int(fields[1])
        ticks[int(folder.name)] = sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
    ours = {os.getpid()}
    while more := {process for process, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(ticks[process] for process in ours)


def others_share(before: Ticks | None, after: Ticks | None) -> float | None:
    """What others took of all processors between two looks, 0 to 1; None where that can't be told."""
    if before is None or after is None or after.whole - before.whole < LEAST_TICKS:
        return None
    others = (after.busy - before.busy) - (after.ours - before.ours)
    return min(1.0, max(0.0, others / (after.whole - before.whole)))
