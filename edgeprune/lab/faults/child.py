"""One `edgeprune run` in a process of its own, as a campaign sees it: its rows, its page, its end, and what it leaves."""

import csv
import http.client
import io
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from edgeprune.lab.served import answer, command_of_run, port_of

MARK = "EDGEPRUNE_FAULT_TRIAL"  # in the environment of the process, and so of all that it starts
POLL_S = 0.05
Row = Mapping[str, str]


class Failed(Exception):
    """What should have come did not."""


class Child:
    """A run with its record and video in `outputs`, and all else of it in `folder`.

    Args:
        words: of the command line, behind `run`.
        environment: beside this process's own.
    """

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], folder: Path, outputs: Path):
        self.folder, self.outputs = folder, outputs
        self.mark = f"{os.getpid()}-{folder.name}-{time.monotonic_ns()}"
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        self._out, self._err = folder / f"{self.mark}.out", folder / f"{self.mark}.err"
        whole = {**os.environ, **environment, MARK: self.mark, "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"}
        whole["PYTHONFAULTHANDLER"] = "1"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command_of_run(words), stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=whole
            )

    @property
    def said(self) -> str:
        return self._err.read_text(errors="replace")

    @property
    def printed(self) -> str:
        return self._out.read_text(errors="replace")

    def record_files(self) -> list[Path]:
        """Files of rows, in their order; those of earlier runs first."""
        return sorted(self.outputs.glob("rows*.csv")) + sorted(self.outputs.glob("rows/rows-*.csv"))

    def video_files(self) -> list[Path]:
        return sorted(self.outputs.glob("film*.mp4")) + sorted(self.outputs.glob("film/video-*.mp4"))

    def lines(self) -> list[bytes]:
        """Every whole line of the record, the headers included."""
        found: list[bytes] = []
        for file in self.record_files():
            with suppress(FileNotFoundError):  # it may get its final name between two looks
                found += [line for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        return found

    def rows(self) -> list[Row]:
        """All rows of the record, those of earlier runs included."""
        lines = self.lines()
        if not lines:
            return []
        header = lines[0]
        text = b"".join([header, *(line for line in lines if line != header)]).decode()
        return list(csv.DictReader(io.StringIO(text)))

    def wait_for_rows(self, count: int, after_ns: int, limit_s: float) -> float:
        """Waits for so many rows of frames that were begun after a time of the monotonic clock; when the first of them was, in
        seconds after it.

        Raises:
            Failed: they do not come within limit_s, or it ends.
        """
        until_s = time.monotonic() + limit_s
        while True:
            new = sorted(int(row["start_ns"]) for row in self.rows() if int(row["start_ns"]) >= after_ns)
            if len(new) >= count:
                return (new[0] - after_ns) / 1e9
            if self.process.poll() is not None:
                raise Failed(f"it ended with exit code {self.process.returncode}: {self.last_line()}")
            if time.monotonic() > until_s:
                raise Failed(f"{len(new)} frames within {limit_s:g} s, {count} expected")
            time.sleep(POLL_S)

    def wait_until_it_hears(self, number: signal.Signals, limit_s: float) -> None:
        """Waits until it has a handler for a signal (Linux): its Python is up, its libraries are not read."""
        until_s = time.monotonic() + limit_s
        while time.monotonic() < until_s:
            with suppress(OSError):
                caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{self.process.pid}/status").read_text())
                if caught and int(caught[1], 16) >> (number - 1) & 1:
                    return
            time.sleep(0.01)
        raise Failed(f"no handler for {number.name} within {limit_s:g} s")

    def wait(self, limit_s: float) -> int:
        """Its exit code.

        Raises:
            Failed: it does not end within limit_s. It is killed then; its `.err` says where it was.
        """
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # Python's faulthandler writes every thread's stack
            time.sleep(1)
            self.kill()
            raise Failed(f"it did not end within {limit_s:g} s") from None

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()

    def last_line(self) -> str:
        return (self.said.strip().splitlines() or [""])[-1]

    def port(self) -> int:
        """Of its page, once it serves one."""
        port = port_of(self.said)
        if port is None:
            raise Failed("no page is served")
        return port

    def health(self) -> str:
        """What its page says; `well` where frames come."""
        status, said = self._ask("/healthz")
        return "well" if status == 200 else f"{status} {said[:200]}"

    def frames_shown(self) -> int:
        """How many frames its page counts: those before the newest are with the kernel, row for row."""
        return int(json.loads(self._ask("/stats")[1])["frames"])

    def _ask(self, path: str) -> tuple[int, str]:
        try:
            status, said = answer(self.port(), path, patience_s=10)
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"the page does not answer {path}: {error or type(error).__name__}") from error
        return status, said.decode(errors="replace")

    def shared(self) -> set[str]:
        """What it has of /dev/shm."""
        found = set()
        with suppress(OSError):
            maps = Path(f"/proc/{self.process.pid}/maps").read_text()
            found |= set(re.findall(r"/dev/shm/\S+$", maps, re.MULTILINE))
            for each in Path(f"/proc/{self.process.pid}/fd").iterdir():
                with suppress(OSError):
                    found.add(os.readlink(each))
        return {name for name in found if name.startswith("/dev/shm/")}

    def left_running(self) -> list[int]:
        """Processes that it has started, or itself, which are still there (Linux)."""
        mark = f"{MARK}={self.mark}".encode()
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                with suppress(OSError):
                    if mark in (folder / "environ").read_bytes().split(b"\0"):
                        found.append(int(folder.name))
        return found
