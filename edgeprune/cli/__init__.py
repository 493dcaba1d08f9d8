"""The command line: one verb, one call; the only place that prints.

Exit codes: 0 well, and a `run` that was stopped; 2 bad input (one line says what was found, what was expected, what to type
next); 3 a failure while running (what was recorded until then is readable); 130 another verb that was stopped.
"""

import os
import sys
from contextlib import suppress

from edgeprune.base.ending import at_stop, end_on_signals, leave, leave_at_once

STOPPED = (130, "stopped")
# a run has no other end than this one, so it is no fault, however early it comes
STOPPED_RUN = (0, "stopped before the first frame; nothing was recorded")
STOPPED_RUN_JSON = '{"frames": 0, "ended": "interrupted"}'


def main() -> None:
    """Entry point. What the verbs import takes a second or more, and a signal in it is no fault to show a traceback of."""
    try:
        end_on_signals()
        with leave_at_once(*_stopped()), at_stop(_show_stopped):
            from edgeprune.cli.commands import import_typed, run_command

            import_typed(sys.argv[1:])
        code = run_command()
    except KeyboardInterrupt:
        code = say_stopped()
    leave(code)


def say_stopped() -> int:
    """Says that the verb was stopped before it had begun; returns its exit code."""
    code, line = _stopped()
    _show_stopped()
    if sys.stderr is not None:
        with suppress(OSError):
            print(line, file=sys.stderr)
    return code


def _stopped() -> tuple[int, str]:
    return STOPPED_RUN if sys.argv[1:2] == ["run"] else STOPPED


def _show_stopped() -> None:
    """The JSON of a `run`, where it was asked for; past Python's own buffer, which a process that leaves at once loses."""
    if _stopped() is STOPPED_RUN and "--json" in sys.argv:
        with suppress(OSError):  # nobody reads it
            os.write(1, f"{STOPPED_RUN_JSON}\n".encode())
