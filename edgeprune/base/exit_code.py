"""What the shell is told when a command ends: an exit code, and one line where it is not 0."""

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Callable, Sequence

import click

from edgeprune.base.errors import EdgepruneError, InputError, one_line
from edgeprune.base.masking import masked
from edgeprune.base.progress import shown_progress

# of an OSError: what was given is well, the machine ran out of something, or whoever read the output is gone
FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


def say_stopped(line: str = "stopped") -> int:
    """Says that a command was stopped; returns its exit code."""
    return _tell(line, 130)


def run_click(
    command: click.Command, name: str, typed: str | None = None, stopped: Callable[[], int] = say_stopped
) -> int:
    """Runs what was typed: errors that a person can act on become one line and an exit code.

    Args:
        name: what a line begins with.
        typed: how the command is typed, where that is not its name.
        stopped: says so after Ctrl-C, and gives the exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name may be no text at all
            stream.reconfigure(errors="backslashreplace")
    try:
        refuse_removed_folder()
        refuse_empty_words(sys.argv[1:])
        with shown_progress():
            code = command.main(prog_name=typed or name, standalone_mode=False)
        if sys.stdout is not None:  # a service may have none
            sys.stdout.flush()  # what can't be written is found out here, not when the interpreter ends
    except click.ClickException as error:
        code = _tell(_of_click(error, command, typed or name), 2)
    except click.Abort:
        code = stopped()
    except EdgepruneError as error:
        code = _tell(f"{name}: {one_line(str(error))}", error.exit_code)
    except SystemExit:
        code = 3  # click's own way out when whoever read the output is gone; it says nothing, as pipes go
    except MemoryError:
        code = _tell(f"{name}: not enough memory; close other programs, or give a smaller size or fewer frames", 3)
    except OSError as error:
        code = _tell(f"{name}: {one_line(_of_system(error))}", _code_of(error))
        if sys.stdout is not None:
            with contextlib.suppress(OSError, ValueError):  # it may have been standard output, and would fail once more
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code if isinstance(code, int) else 0


def refuse_removed_folder() -> None:
    """Refuses to work in a folder that isn't there: no relative path leads anywhere, and torch's MKL ends the process.

    Raises:
        InputError: it was removed.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise InputError("the folder that you are in was removed; type cd and the path of another one") from error


def refuse_empty_words(words: Sequence[str]) -> None:
    """Refuses `--bucket ""` and `--bucket=`: mostly a shell's variable that is not set, and never a name.

    Raises:
        InputError: names the option.
    """
    for before, word in zip(["", *words], words, strict=False):
        if not word or re.fullmatch(r"--[a-z-]+=", word):
            option = word.rstrip("=") or (before if before.startswith("-") else "an argument")
            raise InputError(f"{option} is empty (a variable that is not set?); give it a value or leave it out")


def _tell(line: str, code: int) -> int:
    with contextlib.suppress(OSError):  # nobody reads it; the exit code is left
        typed = [word.partition("=")[2] if word.startswith("--") else word for word in sys.argv[1:]]
        click.echo(masked(line, typed), err=True)
    return code


def _of_click(error: click.ClickException, command: click.Command, typed: str) -> str:
    """What is wrong with the options, in one line."""
    context = getattr(error, "ctx", None)
    verb = context.command_path if context else _verb_typed(command, typed)
    return f"{verb}: {one_line(error.format_message()).removesuffix('.')}; see {verb} --help"


def _verb_typed(command: click.Command, typed: str) -> str:
    """As far as the words that were typed lead from group to command; click names none where an option lacks its value."""
    for word in sys.argv[1:]:
        found = command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
        if found is None:
            break
        command, typed = found, f"{typed} {word}"
    return typed


def _of_system(error: OSError) -> str:
    """The path and the reason; a write that fails names no path."""
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        return reason
    shown = error.filename.decode(errors="replace") if isinstance(error.filename, bytes) else str(error.filename)
    return f"{shown}: {reason}"


def _code_of(error: OSError) -> int:
    """Bad input where a path was named that can't be used, a failure while running where none was."""
    return 3 if error.filename is None or error.errno in FAILURES else 2
