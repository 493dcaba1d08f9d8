"""A run that is told to end: what it may take, whatever else the machine does.

How long that is on a clock, on a machine that does nothing else: `python -m edgeprune.lab.faults --kind SIGTERM --jobs 1`.
"""

import resource
import signal
import subprocess

from edgeprune.lab.served import cpu_ms

PROCESSOR_MS = 1000  # of its own, in all of its threads, from the signal to its end
CLOCK_S = 10.0  # then systemd kills it (docs/service.md)


def drain(process: "subprocess.Popen[str]") -> None:
    """Sends SIGTERM, on which the run ends with exit code 0, within a second of the processor (0.06 s is usual)."""
    before_ms = cpu_ms(process.pid)
    others_ms = _of_children_ms()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=CLOCK_S) == 0
    assert _of_children_ms() - others_ms - before_ms < PROCESSOR_MS


def _of_children_ms() -> float:
    """Processor time of all children of this process that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (used.ru_utime + used.ru_stime)
