"""Graphs that are timed side by side: each in a process of its own, in interleaved rounds.

Whatever slows the machine down for a while (heat, other programs) slows every graph of a round alike.
"""

import json
import logging
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeprune.base.errors import InputError, RunError
from edgeprune.base.statistics import Latency
from edgeprune.evaluate.worker import Job, Round, Window
from edgeprune.runtime.meters import Energy, Meter

logger = logging.getLogger(__name__)

PACKAGES = str(Path(__file__).parents[2])  # the folder that holds edgeprune


@dataclass
class Entry:
    """A graph that is timed, its worker, and what was measured: milliseconds per round and frame, energy per round."""

    graph: str
    bucket: str | None
    job: Job
    description: dict[str, Any] = field(default_factory=dict)
    rounds_ms: list[list[float]] = field(default_factory=list)
    energies: list[Energy] = field(default_factory=list)
    buckets: dict[str, int] = field(default_factory=dict)
    peak_mb: float | None = None
    _process: "subprocess.Popen[str] | None" = None

    @property
    def label(self) -> str:
        """What a message calls it."""
        return f"{self.bucket or self.graph} {self.job.precision}"

    def start(self) -> None:
        """Starts the worker."""
        paths = [PACKAGES, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgeprune.evaluate.worker", self.job.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C is for us; workers end with their input
        )

    def wait_until_warm(self) -> None:
        """Waits until the worker has opened and warmed up its graph.

        Raises:
            InputError: it can't.
        """
        self.description = self._answer()["ready"]

    def _answer(self) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RunError(
                f"the process that times {self.graph} {self.bucket or ''} {self.job.precision} died "
                f"(exit code {self._process.wait()}); is there memory for all graphs at once? see above for its reason"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise InputError(answer["error"])
        return answer

    def time_round(self, meter: Meter) -> None:
        """Lets the worker run over all frames."""
        assert self._process is not None and self._process.stdin is not None
        meter.start()
        try:
            with suppress(BrokenPipeError):  # it has died; there is no answer, which says so
                self._process.stdin.write("round\n")
                self._process.stdin.flush()
            done = Round(**self._answer()["round"])
        finally:
            energy = meter.stop()
        self.energies.append(energy)
        self.rounds_ms.append(done.ms)
        self.buckets, self.peak_mb = done.buckets, done.peak_mb

    def window(self, seconds: float, halfway: Callable[[], None] | None = None) -> Window:
        """Lets the worker run frames for `seconds`.

        Args:
            halfway: is called when half of that has passed.
        """
        assert self._process is not None and self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"window {seconds}\n")
            self._process.stdin.flush()
        if halfway:
            select.select([self._process.stdout], [], [], seconds / 2)
            halfway()
        done = self._answer()["window"]
        return Window(**{**done, "latency_ms": Latency(**done["latency_ms"])})

    def close(self) -> None:
        """Ends the worker: its input ends."""
        if self._process is None:
            return
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextmanager
def open_entries(entries: Sequence[Entry]) -> Iterator[None]:
    """Opens each graph in a process of its own, which ends with the block.

    Raises:
        InputError: what a worker refuses.
        RunError: a worker died.
    """
    logger.info(f"opening {len(entries)} graphs, each in a process of its own")
    with ExitStack() as stack:
        for entry in entries:
            stack.callback(entry.close)
            entry.start()
        for entry in entries:
            entry.wait_until_warm()
        yield


def rotated(entries: Sequence[Any], number: int) -> list[Any]:
    """The order of a round: each begins with another one."""
    start = number % len(entries)
    return [*entries[start:], *entries[:start]]


def time_entries(entries: Sequence[Entry], rounds: int, meter: Meter) -> None:
    """Opens each graph in a process of its own and times them in interleaved rounds. Raises as `open_entries`."""
    with open_entries(entries):
        for number in range(rounds):
            for entry in rotated(entries, number):
                entry.time_round(meter)
            logger.info(f"round {number + 1} of {rounds}")
