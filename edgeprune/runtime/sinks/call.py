"""A function of the user's own that gets each result: `run --call robot:publish`."""

import importlib
import inspect
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from edgeprune.base.errors import InputError, RunError, nearest, one_line
from edgeprune.runtime.cameras.source import FrameSource
from edgeprune.runtime.row import Row, milliseconds
from edgeprune.runtime.sinks.sink import Sink
from edgeprune.runtime.tasks import Result


def load_function(name: str) -> Callable[[Result], Any]:
    """`robot:publish` -> the function `publish` of robot.py, which lies in the working folder or is installed.

    Raises:
        InputError: no such module or function, importing it fails, or it takes something else than one result.
    """
    module_name, function_name = _split(name)
    if "" not in sys.path and str(Path.cwd()) not in sys.path:  # where `python robot.py` would find it
        sys.path.insert(0, str(Path.cwd()))
    try:
        with redirect_stdout(sys.stderr):
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever it does when it is imported
        raise InputError(f"cannot import {module_name} for --call {name} ({_said(error)}); check the module") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise InputError(f"{module_name} has no function {function_name!r}{nearest(function_name, known)}")
    refuse_other_arguments(name, function)
    return function  # type: ignore[no-any-return]


def look_at_name(name: str) -> None:
    """Raises InputError for what is no MODULE:FUNCTION; imports nothing."""
    _split(name)


def _split(name: str) -> tuple[str, str]:
    """Module and function of a name."""
    module_name, colon, function_name = name.partition(":")
    if not (colon and module_name and function_name):
        raise InputError(f"{name!r} names no function; type one as MODULE:FUNCTION, such as robot:publish for robot.py")
    if module_name.endswith(".py") or "/" in module_name:
        raise InputError(f"{name!r} names a file; type its module, such as {Path(module_name).stem}:{function_name}")
    return module_name, function_name


def refuse_other_arguments(name: str, function: Callable[..., Any]) -> None:
    """Raises InputError for a function that can't be called with a result alone; one that tells nobody what it takes passes."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # of much that is written in C
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise InputError(
            f"{name}{signature} can't be called with a result alone ({error}); write it as f(result)"
        ) from None


def find_function(name: str) -> None:
    """Refuses a name of no function before anything is begun; it writes nothing. Raises InputError as `load_function`."""
    load_function(name)


class Call(Sink):
    """Calls the function with each result, in the thread of the loop: the next frame waits for it. What it prints goes to
    standard error, for standard output has the run's own result alone."""

    def __init__(self, name: str, source: FrameSource):
        self._name, self._function = name, load_function(name)

    def add(self, result: Result, row: Row) -> Row:
        start_ns = time.monotonic_ns()
        try:
            with redirect_stdout(sys.stderr):
                self._function(result)
        except KeyboardInterrupt:  # Ctrl-C ends the run as anywhere else
            raise
        except BaseException as error:  # whatever the function does, `sys.exit` too
            raise RunError(f"{self._name} failed on frame {row.index}: {_said(error)}") from error
        return row.after_encoding(milliseconds(start_ns, time.monotonic_ns()))


def _said(error: BaseException) -> str:
    """`robot.py:12: ValueError: bad`."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    return one_line(f"{Path(at.filename).name}:{at.lineno}: {type(error).__name__}: {error}")
