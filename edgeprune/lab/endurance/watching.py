"""What is seen of a run from outside while it goes on: its memory, its files, and its page as a viewer plays it."""

import re
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeprune.base.errors import InputError
from edgeprune.lab.served import STREAM, ask

PERIOD_S = 10.0  # between two samples
PATIENCE_S = 10.0  # of the viewer, without a byte: the page sends a picture again after two seconds
# `/proc/PID/smaps_rollup` adds up what the kernel knows of each page; `VmRSS` of `status` may be off by some hundred
# kilobytes on many cores (proc(5))
MEMORY = {"resident": "Rss", "anonymous": "Anonymous"}
START, END = b"\xff\xd8", b"\xff\xd9"  # of a JPEG
NUMBER = re.compile(rb"frame (\d+)")  # its comment


@dataclass(frozen=True)
class Sample:
    """A run at one moment.

    Attributes:
        at_s: by the monotonic clock.
        resident_mb, anonymous_mb: memory in 1e6 bytes: all that is resident, and what of it belongs to no file.
        threads, files: that the process has, open ones of files.
        bytes_of: of each folder of outputs, what its files take.
    """

    at_s: float
    resident_mb: float
    anonymous_mb: float
    threads: int
    files: int
    bytes_of: Mapping[str, int]


def take_sample(process: int, folders: Mapping[str, Path]) -> Sample:
    """Of a process on Linux.

    Raises:
        InputError: there is no /proc.
        OSError: the process has ended.
    """
    proc = Path(f"/proc/{process}")
    if not Path("/proc/self/smaps_rollup").exists():
        raise InputError("this machine has no /proc/PID/smaps_rollup, where a process's memory stands; run it on Linux")
    said = (proc / "smaps_rollup").read_text()
    resident_mb, anonymous_mb = (
        int(re.findall(rf"^{key}:\s+(\d+) kB$", said, re.MULTILINE)[0]) * 1024 / 1e6 for key in MEMORY.values()
    )
    return Sample(
        at_s=time.monotonic(),
        resident_mb=resident_mb,
        anonymous_mb=anonymous_mb,
        threads=len(list((proc / "task").iterdir())),
        files=len(list((proc / "fd").iterdir())),
        bytes_of={name: _bytes_of(folder) for name, folder in folders.items()},
    )


def _bytes_of(folder: Path) -> int:
    """What the files of a folder take; one that is removed meanwhile takes nothing."""
    total = 0
    for each in folder.iterdir() if folder.is_dir() else ():
        try:
            total += each.stat().st_size
        except FileNotFoundError:
            continue
    return total


class Player(threading.Thread):
    """Plays the page's stream as an image is played, and asks for its figures once a second, until it is ended.

    Attributes:
        pictures: whole JPEGs that came.
        disordered: pictures whose number is lower than that of one before.
        broken: pictures that are no whole JPEG.
        longest_gap_s: between two pictures, or to the end.
        failures: what went wrong, a line each: a stream that ended, figures that did not come.
    """

    def __init__(self, port: int):
        super().__init__(name="player", daemon=True)
        self.pictures = self.disordered = self.broken = 0
        self.longest_gap_s = 0.0
        self.failures: list[str] = []
        self._port, self._done = port, threading.Event()
        self._number = 0
        self._last_s = self._asked_s = time.monotonic()
        self.start()

    def run(self) -> None:
        while not self._done.is_set():
            try:
                self._play()
            except OSError as error:
                if not self._done.is_set():
                    self.failures.append(f"the stream ended: {error or type(error).__name__}")
                    self._done.wait(1)

    def _play(self) -> None:
        """One connection, until it ends."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE_S) as stream:
            stream.sendall(STREAM)
            held, divider = b"", b""
            while not self._done.is_set():
                data = stream.recv(1 << 18)
                if not data:
                    raise ConnectionResetError("it was closed")
                held += data
                divider = divider or _divider(held)
                while divider and divider in held:
                    part, _, held = held.partition(divider)
                    self._take(part.rpartition(b"\r\n\r\n")[2] if START not in part[:2] else part)
                self._ask()

    def _take(self, picture: bytes) -> None:
        """What stands between two dividers; before the first one stand the headers."""
        if not picture:
            return
        now_s = time.monotonic()
        self.longest_gap_s, self._last_s = max(self.longest_gap_s, now_s - self._last_s), now_s
        found = NUMBER.search(picture[:256])
        if not (picture.startswith(START) and picture.endswith(END) and found):
            self.broken += 1
            return
        number = int(found[1])
        self.pictures += 1
        self.disordered += number < self._number
        self._number = number

    def _ask(self) -> None:
        """For the figures, as the page's script does."""
        if time.monotonic() < self._asked_s + 1:
            return
        self._asked_s = time.monotonic()
        try:
            status = ask(self._port, "/stats")
        except OSError as error:
            status = 0
            if not self._done.is_set():
                self.failures.append(f"no figures: {error or type(error).__name__}")
        if status not in (0, 200):
            self.failures.append(f"no figures: answer {status}")

    def leave(self) -> None:
        """From here on an end of the stream is no failure: the run is about to end."""
        self._done.set()

    def end(self) -> None:
        """Waits for the thread."""
        self.leave()
        self.join(2 * PATIENCE_S)


def _divider(head: bytes) -> bytes:
    """What stands between two pictures, by the headers of the answer; empty before they are whole."""
    headers, end, _ = head.partition(b"\r\n\r\n")
    found = re.search(rb"boundary=([^\s;]+)", headers)
    return b"\r\n--" + found[1] + b"\r\nContent-Type: image/jpeg\r\n\r\n" if end and found else b""
