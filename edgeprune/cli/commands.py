"""The verbs, and what the shell is told when one of them ends: an exit code, and one line where it is not 0."""

import contextlib
import errno
import io
import os
import sys

import click

from edgeprune import __version__
from edgeprune.base.errors import EdgepruneError, one_line
from edgeprune.cli import bench_torch, build, compare, demo, device, growth, lint, measure, run, tokens, train
from edgeprune.runtime.cameras.masking import masked

COMMANDS = [
    demo.demo,
    train.train,
    train.calibrate,
    train.probe,
    lint.lint,
    build.build,
    build.inspect,
    build.targets,
    build.peers,
    device.compile_,
    device.doctor,
    device.deploy_,
    run.run,
    measure.eval_,
    measure.bench,
    bench_torch.bench_torch,
    growth.growth,
    compare.compare,
    tokens.show,
]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def edgeprune() -> None:
    """Pruned, INT8 vision transformers for segmentation on camera streams."""


for command in COMMANDS:
    edgeprune.add_command(command)


# of an OSError: what was given is well, the machine ran out of something, or whoever read the output is gone
FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


def run_command() -> int:
    """Runs the verb that was typed: errors that a person can act on become one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name may be no text at all
            stream.reconfigure(errors="backslashreplace")
    try:
        code = edgeprune.main(prog_name="edgeprune", standalone_mode=False)
        if sys.stdout is not None:  # a service may have none
            sys.stdout.flush()  # what can't be written is found out here, not when the interpreter ends
    except click.ClickException as error:
        code = _tell(_of_click(error), 2)
    except click.Abort:
        code = _tell("stopped", 130)
    except EdgepruneError as error:
        code = _tell(f"edgeprune: {one_line(str(error))}", error.exit_code)
    except SystemExit:
        code = 3  # click's own way out when whoever read the output is gone; it says nothing, as pipes go
    except MemoryError:
        code = _tell("edgeprune: not enough memory; close other programs, or give a smaller size or fewer frames", 3)
    except OSError as error:
        code = _tell(f"edgeprune: {one_line(_of_system(error))}", _code_of(error))
        if sys.stdout is not None:
            with contextlib.suppress(OSError, ValueError):  # it may have been standard output, and would fail once more
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code if isinstance(code, int) else 0


def _tell(line: str, code: int) -> int:
    with contextlib.suppress(OSError):  # nobody reads it; the exit code is left
        click.echo(masked(line), err=True)
    return code


def _of_click(error: click.ClickException) -> str:
    """What is wrong with the options, in one line."""
    context = getattr(error, "ctx", None)
    verb = context.command_path if context else "edgeprune"
    return f"{verb}: {one_line(error.format_message())}; see {verb} --help"


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
