"""How a verb is ended from outside: SIGTERM and SIGHUP (`systemctl stop`, `docker stop`, a closed terminal) as Ctrl-C.

The first signal raises KeyboardInterrupt in the main thread, wherever it is, but not inside `held()`. Python handles a
signal between two of its own instructions, so native code (a compiler, a connection that waits) puts it off; where that
must not be, `hard_stop` lets a thread of its own end the process. Where nothing is begun yet, `leave_at_once` ends it
without an exception, which an import may swallow or make another of.
"""

import atexit
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INSISTS_S = 1.5  # a run is ended within a second
FAILED = 3  # exit code where what was recorded could not be finished
GRACE_S = 0.6  # native code may keep the main thread for as long; with what follows it is less than a second


class _Ending:
    """What is known of the end of this process; a process has one, as it has one set of signal handlers."""

    def __init__(self) -> None:
        self.installed = self.asked = self.raised = False
        self.asked_s = 0.0
        self.seen = threading.Event()  # the main thread has taken notice
        self.holds = 0
        self.hard_code: int | None = None
        self.at_once = False
        self.last_words = "stopped"
        self.finishers: list[Callable[[], None]] = []
        self.left: list[threading.Thread] = []


_ending = _Ending()


def end_on_signals() -> None:
    """Takes SIGINT, SIGTERM and SIGHUP from here on; call it first of all, in the main thread.

    A signal that is ignored from outside (`nohup`, a job in the background) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    forget()
    if _ending.installed:
        return
    _ending.installed = True
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    threading.Thread(target=_watch, args=(reader,), name="signals", daemon=True).start()
    descriptor = writer.detach()
    _wake(descriptor)
    # a forked worker would share the socket: its signals are not this process's
    os.register_at_fork(
        before=lambda: _wake(-1), after_in_parent=lambda: _wake(descriptor), after_in_child=lambda: _wake(-1)
    )
    taken = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    atexit.register(lambda: [signal.signal(number, signal.SIG_IGN) for number in taken])  # what was to do is done
    for number in taken:
        signal.signal(number, _stop)


def forget() -> None:
    """Where a process does more than one thing: what ended the last of them is no end of the next."""
    _ending.asked = _ending.raised = False
    _ending.seen.clear()
    _ending.holds = 0


def _stop(number: int, frame: FrameType | None) -> None:
    """The handler, in the main thread. A service manager may ask twice, a hand may slip; a person who presses Ctrl-C again
    after INSISTS_S insists.
    """
    _ending.seen.set()
    if _ending.at_once and _ending.hard_code is not None:
        _leave(_ending.hard_code)
    now_s = time.monotonic()
    if _ending.asked and (number != signal.SIGINT or now_s < _ending.asked_s + INSISTS_S):
        return
    insists = _ending.asked
    _ending.asked, _ending.asked_s = True, now_s
    if insists or not _ending.holds:
        _ending.raised = True
        raise KeyboardInterrupt


def _wake(descriptor: int) -> None:
    """Signals are told to that socket; -1: to none."""
    if threading.current_thread() is threading.main_thread():
        signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)


def _watch(reader: socket.socket) -> None:
    """In a thread: the signal is known here at once, whatever the main thread is busy with."""
    while number := reader.recv(1):
        if number[0] in SIGNALS and _ending.hard_code is not None and not _ending.seen.wait(GRACE_S):
            _leave(_ending.hard_code)


def _leave(code: int) -> None:
    for finish in reversed(_ending.finishers):
        try:
            finish()
        except Exception as error:  # the others are to be finished all the same
            _say(f"edgeprune: {error}")
            code = FAILED
    _say(_ending.last_words)
    os._exit(code)


def _say(line: str) -> None:
    with suppress(OSError):  # a service may have no standard error, and is to end all the same
        os.write(2, f"{line}\n".encode(errors="backslashreplace"))


@contextmanager
def held() -> Iterator[None]:
    """What is inside is done as a whole: KeyboardInterrupt comes after it."""
    with ending():
        yield
    if _ending.asked and not _ending.raised and not _ending.holds:
        _ending.raised = True
        raise KeyboardInterrupt


@contextmanager
def ending() -> Iterator[None]:
    """What is inside is the end already: a signal changes nothing."""
    _ending.holds += 1
    try:
        yield
    finally:
        _ending.holds -= 1


def asked() -> bool:
    """Whether a signal has come: a verb goes on to nothing new."""
    return _ending.asked


def ended() -> None:
    """From here on a signal changes nothing: what was to do is done, and the process is about to end."""
    _ending.holds += 1


def leave_behind(thread: threading.Thread) -> None:
    """A thread in native code that nobody waits for: where it is still there at the end, the process ends without it."""
    _ending.left.append(thread)


def leave(code: int) -> NoReturn:
    """Ends the process, all being done, by SystemExit; at once where a thread was left behind.

    A thread that comes out of a library's native code while the interpreter is being taken down is ended there and then,
    which C++ answers with an abort. Python would look through all objects once more for garbage, a fifth of a second of a core
    and seconds on a busy machine, in which a service is waited for: what is there then goes with the process.
    """
    atexit.register(gc.freeze)
    if any(thread.is_alive() for thread in _ending.left):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # nobody reads it, or there is none
                stream.flush()
        os._exit(code)
    if _ending.raised:
        _forget_ctrl_c()
    sys.exit(code)


def _forget_ctrl_c() -> None:
    """Python ends itself by SIGINT, whatever the exit code, where KeyboardInterrupt came out of code that a library ran by
    PyRun_String, also where it was caught then; any that is run so later takes that back (run_eval_code_obj of CPython's
    Python/pythonrun.c)."""
    with suppress(ImportError, AttributeError):
        import ctypes

        ctypes.pythonapi.PyRun_SimpleString(b"")


@contextmanager
def hard_stop(code: int) -> Iterator[None]:
    """Inside, native code that keeps the main thread for GRACE_S after a signal is not waited for: the process ends.

    Args:
        code: the exit code; what was given to `at_stop` is done first.
    """
    before, _ending.hard_code = _ending.hard_code, code
    try:
        yield
    finally:
        _ending.hard_code = before


@contextmanager
def leave_at_once(code: int, last_words: str) -> Iterator[None]:
    """Inside, a signal ends the process there and then, with that exit code and that line on standard error."""
    _ending.at_once, _ending.last_words = True, last_words
    try:
        with hard_stop(code):
            yield
    finally:
        _ending.at_once, _ending.last_words = False, "stopped"


@contextmanager
def at_stop(finish: Callable[[], None]) -> Iterator[None]:
    """Inside, `finish` puts in order what a hard stop would leave; it is called in another thread."""
    _ending.finishers.append(finish)
    try:
        yield
    finally:
        _ending.finishers.remove(finish)
