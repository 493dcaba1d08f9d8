"""A run in a process of its own, and its page: how it is started, what the page answers, how much processor time it takes."""

import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgeprune.base.errors import RunError

START_S = 300.0  # until its first frame: a device may compile before
ADDRESS = re.compile(r"live page: http://[^:]+:(\d+)")
STREAM = b"GET /stream.mjpg HTTP/1.0\r\nHost: localhost\r\n\r\n"  # what a viewer asks for


def command_of_run(words: Sequence[str]) -> list[str]:
    """`edgeprune run` with these options, by this Python; its summary comes as JSON."""
    return [sys.executable, "-m", "edgeprune", "run", *words, "--json"]


@contextmanager
def served(command: Sequence[str], log: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """The process, from its first frame on, and the port of its page. It is ended whatever happens.

    Args:
        log: what it says is written there; standard output is a pipe.

    Raises:
        RunError: it did not begin.
    """
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True) as process,
    ):
        try:
            yield process, _port_with_frames(process, log)
        finally:
            if process.poll() is None:
                process.kill()


def _port_with_frames(process: "subprocess.Popen[str]", log: Path) -> int:
    """That of the page, once it shows frames."""
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        ended = process.poll() is not None
        said = log.read_text(encoding="utf-8", errors="replace")
        if ended:
            raise RunError(f"the run did not begin: {(said.splitlines() or ['it said nothing'])[-1]}")
        if port := port_of(said):
            with suppress(OSError):  # it may end just now
                if ask(port, "/healthz") == 200:
                    return port
        time.sleep(0.05)
    raise RunError(f"the run has no frame after {START_S:g} s; see {log}")


def port_of(said: str) -> int | None:
    """Of the page, by the line that a run says; None where it serves none yet."""
    found = ADDRESS.search(said)
    return int(found[1]) if found else None


def ask(port: int, path: str) -> int:
    """The status of the page's answer."""
    return answer(port, path)[0]


def stats(port: int) -> dict[str, Any]:
    """The page's figures."""
    return dict(json.loads(answer(port, "/stats")[1]))


def answer(port: int, path: str, patience_s: float = 60.0) -> tuple[int, bytes]:
    """Status and body of what a page on this machine answers. Raises OSError or HTTPException where it does not."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience_s)
    try:
        connection.request("GET", path)
        found = connection.getresponse()
        return found.status, found.read()
    finally:
        connection.close()


def cpu_ms(process: int) -> float:
    """Processor time of a process until now (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
