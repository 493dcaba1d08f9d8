"""Signals, sent to real processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

BEGIN = """
import hashlib, os, signal, sys, threading, time
from edgeprune.base.ending import at_stop, ended, end_on_signals, ending, hard_stop, held
end_on_signals()
def native(rounds):  # keeps the main thread as a compiler does: no Python handler runs until it returns
    threading.Timer(0.1, print, ["ready"], {"flush": True}).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", rounds)
def wait(seconds):
    print("ready", flush=True)
    time.sleep(seconds)
"""


@pytest.fixture
def start() -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """start(script): a process that has said that it is ready."""
    processes = []

    def begin(script: str) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        process = subprocess.Popen([sys.executable, "-c", BEGIN + script], stdout=pipe, stderr=pipe, text=True)
        processes.append(process)
        assert process.stdout and process.stdout.readline() == "ready\n"
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_as_ctrl_c(start: Callable[[str], "subprocess.Popen[str]"], number: signal.Signals) -> None:
    process = start("try:\n    wait(30)\nexcept KeyboardInterrupt:\n    print('as Ctrl-C')\n")
    process.send_signal(number)
    assert process.communicate(timeout=600)[0] == "as Ctrl-C\n" and process.returncode == 0


def test_a_second_one_changes_nothing(start: Callable[[str], "subprocess.Popen[str]"]) -> None:
    process = start("try:\n    wait(30)\nexcept KeyboardInterrupt:\n    wait(0.5)\n    print('in order')\n")
    process.send_signal(signal.SIGTERM)
    assert process.stdout and process.stdout.readline() == "ready\n"
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):  # Ctrl-C by a hand that slipped
        process.send_signal(number)
    assert process.communicate(timeout=600)[0] == "in order\n" and process.returncode == 0


INSISTS = """
import edgeprune.base.ending as ending_
ending_.INSISTS_S = 0.2
try:
    wait(30)
except KeyboardInterrupt:
    try:
        time.sleep(0.3)
        wait(30)
    except KeyboardInterrupt:
        print("insisted")
"""


def test_ctrl_c_again_after_a_while_insists(start: Callable[[str], "subprocess.Popen[str]"]) -> None:
    process = start(INSISTS)
    process.send_signal(signal.SIGINT)
    assert process.stdout and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=600)[0] == "insisted\n" and process.returncode == 0


HELD = """
try:
    with held():
        wait(0.4)
        print("whole")
    print("not reached")
except KeyboardInterrupt:
    print("then ended")
"""


def test_what_is_held_is_done_as_a_whole(start: Callable[[str], "subprocess.Popen[str]"]) -> None:
    process = start(HELD)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=600)[0] == "whole\nthen ended\n"


@pytest.mark.parametrize("script", ["with ending():\n    wait(0.4)\n", "ended()\nwait(0.4)\n"])
def test_an_end_is_not_ended_again(start: Callable[[str], "subprocess.Popen[str]"], script: str) -> None:
    process = start(script + "print('over')\n")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=600)[0] == "over\n" and process.returncode == 0


def test_what_follows_a_run_knows_that_it_was_stopped(start: Callable[[str], "subprocess.Popen[str]"]) -> None:
    process = start("with ending():\n    wait(0.4)\nfrom edgeprune.base.ending import asked\nprint(asked())\n")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=600)[0] == "True\n"


NATIVE = """
def finish():
    print("in order", flush=True)
with hard_stop(0), at_stop(finish):
    native(200_000_000)
"""


def test_native_code_is_not_waited_for(start: Callable[[str], "subprocess.Popen[str]"]) -> None:
    process = start(NATIVE)
    process.send_signal(signal.SIGTERM)
    said, complaint = process.communicate(timeout=600)
    assert (said, complaint, process.returncode) == ("in order\n", "stopped\n", 0)


def test_what_could_not_be_finished_is_a_failure(start: Callable[[str], "subprocess.Popen[str]"]) -> None:
    process = start(NATIVE.replace('print("in order", flush=True)', 'raise OSError("no space")'))
    process.send_signal(signal.SIGTERM)
    said, complaint = process.communicate(timeout=600)
    assert (said, complaint, process.returncode) == ("", "edgeprune: no space\nstopped\n", 3)


def test_a_service_without_standard_error_is_ended_too(start: Callable[[str], "subprocess.Popen[str]"]) -> None:
    process = start("os.close(2)\n" + NATIVE)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=600)[0] == "in order\n" and process.returncode == 0


AT_ONCE = """
from edgeprune.base.ending import leave_at_once
with leave_at_once(5, "nothing was begun"):
    try:
        {}
    except BaseException:
        print("swallowed")
"""


@pytest.mark.parametrize("busy", ["wait(30)", "native(200_000_000)"])
def test_where_nothing_is_begun_it_ends_there_and_then(
    start: Callable[[str], "subprocess.Popen[str]"], busy: str
) -> None:
    process = start(AT_ONCE.format(busy))
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=600) == ("", "nothing was begun\n") and process.returncode == 5


def test_elsewhere_native_code_is_waited_for(start: Callable[[str], "subprocess.Popen[str]"]) -> None:
    process = start("try:\n    native(1_500_000)\nexcept KeyboardInterrupt:\n    print('cleaned up')\n")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=600)[0] == "cleaned up\n"


FORKED = """
import multiprocessing
def work():
    time.sleep(0.3)
worker = multiprocessing.get_context("fork").Process(target=work)
with hard_stop(7):
    worker.start()
    os.kill(worker.pid, signal.SIGTERM)
    worker.join()
    native(1_500_000)
print("went on")
"""


def test_a_workers_signal_is_not_ours(start: Callable[[str], "subprocess.Popen[str]"]) -> None:
    assert start(FORKED).communicate(timeout=600)[0] == "went on\n"


def test_nohup_stays_nohup(tmp_path: Path) -> None:
    script = BEGIN + "os.kill(os.getpid(), signal.SIGHUP)\nprint('went on')\n"
    words = ["nohup", sys.executable, "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, cwd=tmp_path)
    assert done.stdout == "went on\n", done.stderr


@pytest.mark.parametrize(("rounds", "last"), [(500_000_000, "done"), (1, "at exit")], ids=["alive", "ended"])
def test_a_thread_in_native_code_is_left_behind(
    start: Callable[[str], "subprocess.Popen[str]"], rounds: int, last: str
) -> None:
    """Without the interpreter's own end, in which such a thread would abort the process."""
    script = f"""
import atexit
from edgeprune.base.ending import leave, leave_behind
atexit.register(print, "at exit")
thread = threading.Thread(target=native, args=({rounds},), daemon=True)
leave_behind(thread)
thread.start()
time.sleep(1)
print("done")
leave(5)
"""
    process = start(script)
    out, complaint = process.communicate(timeout=60)
    assert (process.returncode, out.splitlines()[-1], complaint) == (5, last, "")


def test_a_process_that_leaves_does_not_look_for_garbage() -> None:
    """A fifth of a second of a core, in which a service manager waits."""
    garbage = """
from edgeprune.base.ending import leave
class Found:
    def __del__(self):
        print("looked through")
found = Found()
found.itself = found
del found
leave(4)
"""
    done = subprocess.run([sys.executable, "-c", garbage], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (4, "", "")


def test_ctrl_c_in_code_that_a_library_runs_is_no_death_by_a_signal(tmp_path: Path) -> None:
    """CPython keeps it in mind, though it was caught, and would end itself by SIGINT."""
    script = """
import ctypes, sys
from edgeprune.base.ending import end_on_signals, leave
end_on_signals()
run, names = ctypes.pythonapi.PyRun_String, ctypes.py_object({})
run.restype = ctypes.py_object
try:
    run(b"import os, signal, time; os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", 257, names, names)
except KeyboardInterrupt:
    print("caught", flush=True)
leave(0)
"""
    (tmp_path / "stopped.py").write_text(script)
    command = [sys.executable, "-m", "stopped"]  # with -c Python does not look
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "caught\n", "")
