"""A program of the user's that prints watts: one line for each reading, as it takes them.

It runs from `start()` to `stop()` and no longer, without a shell. A program that ends is run again for the next reading, so
`cat /run/power` is one too; one that goes on printing costs the machine less. A line counts when it arrives. At `stop()` the
newest one is taken to hold until then.
"""

import os
import shlex
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

from edgeprune.base.errors import InputError
from edgeprune.runtime.meters.meter import NoSensor
from edgeprune.runtime.meters.sampling import PATIENCE_S, Measurement, SummingMeter
from edgeprune.runtime.meters.sums import PowerIntegral
from edgeprune.runtime.meters.written import parse_watts

RAIL = "power"
BEGIN_S = 10.0  # until the first line: a script may have to find its meter in the network first
RUN_AGAIN_S = 0.5  # from one beginning of a program that ends to the next: a process is started for each
GAP_S = PATIENCE_S / 2  # from line to line; many meters say something once a second
LINE_S = 0.01  # lines that come faster are not all taken
LONGEST = 4096  # bytes of a line
END_S = 1.0  # that a program has to end when it is asked to
BUFFERED = "where it prints and nothing arrives, its output is buffered: python -u, stdbuf -oL"


class CommandMeter(SummingMeter):
    """The meter. `words`: the program and its arguments. What they are is shown nowhere but the program's name: a password may
    be among them."""

    begin_s = BEGIN_S

    def __init__(self, words: list[str]):
        self.program = Path(words[0]).name
        super().__init__(
            "command",
            f"measured by what {self.program} prints (a command of the user's)",
            lambda: PowerIntegral(GAP_S),
            [RAIL],
        )
        self._words = words
        self._running: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()  # a program is not started once the measurement is stopping

    def check(self) -> None:
        """Runs the program until its first line.

        Raises:
            NoSensor: it can't be run, ends, or prints nothing or something else than watts.
        """
        self.start()
        measurement = self._now
        assert measurement is not None
        failure = (
            measurement.failure if measurement.begun.is_set() else f"printed nothing in {BEGIN_S:.0f} s; {BUFFERED}"
        )
        self.stop()
        if failure:
            hint = "" if BUFFERED in failure else "; it is to print watts, a number a line: run it in a shell first"
            raise NoSensor(f"--meter command: {self.program} {failure}{hint}")

    def _take_all(self, measurement: Measurement) -> None:
        while not measurement.stopping.is_set():
            began_s = time.monotonic()
            try:
                self._run_once(measurement)
            except OSError as error:
                measurement.fail(f"can't be run ({error.strerror or error})")
            measurement.stopping.wait(max(0.0, began_s + RUN_AGAIN_S - time.monotonic()))

    def _run_once(self, measurement: Measurement) -> None:
        """Adds what the program prints, until it ends."""
        with self._starting:
            if measurement.stopping.is_set():
                return
            program = self._running = subprocess.Popen(
                self._words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
            )
        assert program.stdout is not None
        with program.stdout:
            said = _add_lines(program.stdout.fileno(), measurement)
        code = _wait_for(program, PATIENCE_S)
        if measurement.stopping.is_set():
            return  # it was ended
        if code:
            measurement.fail(f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}")
        elif not said:
            measurement.fail("printed nothing")

    def _end(self, measurement: Measurement) -> None:
        """Holds the newest line until now, and ends the program with all that it started."""
        measurement.hold(time.monotonic(), PATIENCE_S, f"printed nothing for {PATIENCE_S:.0f} s; {BUFFERED}")
        measurement.stopping.set()
        with self._starting:
            program, self._running = self._running, None
        if program is None:
            return
        for ending in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(program.pid, ending)
            self._thread.join(END_S)
            if not self._thread.is_alive():
                return


def _add_lines(descriptor: int, measurement: Measurement) -> bool:
    """Adds the newest whole line of what there is to read, again and again until the end. Whether there was one."""
    said, rest = False, b""
    while True:
        block = os.read(descriptor, 65536)
        whole, _, rest = (rest + block).rpartition(b"\n") if block else (rest, b"", b"")
        if len(rest) > LONGEST:
            whole, rest = rest, b""
        newest = whole.rstrip().rpartition(b"\n")[2]
        if newest:
            said = True
            try:
                measurement.add(time.monotonic(), {RAIL: parse_watts(newest[:LONGEST].decode(errors="replace"))})
            except ValueError as error:
                measurement.fail(f"printed {error}")
        if not block or measurement.stopping.wait(LINE_S if said else 0):
            return said


def _wait_for(program: "subprocess.Popen[bytes]", patience_s: float) -> int:
    """The exit code of a program that has closed its output; it is killed where it goes on."""
    try:
        return program.wait(patience_s)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        return program.wait()


def open_command(typed: str) -> CommandMeter:
    """A meter that runs the command line `typed`, split as a shell splits words; no shell reads it.

    Raises:
        InputError: no program is named, or a quote has no end.
        NoSensor: the program isn't there, or gives no power; see `CommandMeter.check`.
    """
    try:
        words = shlex.split(typed)
    except ValueError as error:
        raise InputError(f"--meter command:{typed}: {error}; quote the whole as 'command:PROGRAM ARGUMENTS'") from None
    if not words:
        raise InputError("--meter command: names no program; type it behind the colon, as 'command:cat /run/power'")
    meter = CommandMeter(words)
    meter.check()
    return meter
