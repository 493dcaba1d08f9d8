"""The command line: one verb, one call; the only place that prints.

Exit codes: 0 well; 2 bad input (one line says what was found, what was expected, what to type next); 3 a failure while
running (what was recorded until then is readable); 130 stopped by Ctrl-C.
"""

import sys

from edgeprune.base.ending import end_on_signals


def main() -> None:
    """Entry point. What the verbs import takes a second or more, and Ctrl-C in it is no fault to show a traceback of."""
    try:
        end_on_signals()
        from edgeprune.cli.commands import run_command

        code = run_command()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        code = 130
    sys.exit(code)
