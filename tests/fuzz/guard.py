"""What a case may not do, whatever is in it: start a process, write outside its folder, take more than its time or memory."""

import faulthandler
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 10.0  # of a case
MEMORY = 1 << 30  # bytes beside what the libraries take when they are imported
PROCESSES = (
    "subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.fork", "os.forkpty", "pty.spawn",
)  # fmt: skip
# what a run asks of the machine for its record, word for word: no input has a say in them
ASKED = (["uname", "-p"], ["nvpmodel", "-q"])
NETWORK = ("socket.connect", "socket.bind", "socket.sendto")
WRITES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")


class Broken(BaseException):
    """A case did what it may not; no `except Exception` of the product hides it."""


class Guard:
    """Watches over this process from `begin` on. Audit hooks can't be taken away again, so it is made once."""

    def __init__(self, folder: Path):
        self._folder = os.path.realpath(folder)
        self._watching = False
        sys.addaudithook(self._hook)
        signal.signal(signal.SIGALRM, self._late)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._watching:
            return
        if event == "subprocess.Popen" and list(args[1]) in ASKED:
            return
        if event in PROCESSES or event in NETWORK:
            raise Broken(f"{event} {args[:2]!r}")
        if event in WRITES:
            self._inside(event, args[0])
        if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self._inside(event, args[0])

    def _inside(self, event: str, path: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a descriptor that is open already
        real = os.path.realpath(os.fsdecode(path))
        if real != os.devnull and os.path.commonpath((real, self._folder)) != self._folder:
            raise Broken(f"{event} of {real!r}, outside the output folder")

    def _late(self, *_: Any) -> None:
        raise Broken(f"more than {SECONDS:g} s")

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Around one case."""
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        faulthandler.dump_traceback_later(3 * SECONDS, exit=True)  # C code does not see the signal
        self._watching = True
        try:
            yield
        finally:
            self._watching = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.cancel_dump_traceback_later()


def limit_memory() -> None:
    """From now on the process gets MEMORY more of address space than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def listing(*folders: Path) -> set[str]:
    """What lies in some folders: C code writes past the audit hook."""
    return {str(path) for folder in folders for path in folder.iterdir()}
