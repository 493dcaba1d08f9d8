"""Progress on standard error, where a command asks for it.

Every module says what it does to a logger of its name, below `edgeprune`; nobody listens until a command does, or whoever uses
edgeprune as a library adds a handler.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

import click

ROOT = logging.getLogger("edgeprune")
_heading: ContextVar[str] = ContextVar("heading", default="")


class ProgressHandler(logging.Handler):
    """Writes each message as lines of standard error, so that a pipe gets the result alone."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # nobody reads it any more, which is no reason to end the work
            click.echo(f"{_heading.get()}{record.getMessage()}", err=True)


@contextmanager
def shown_progress() -> Iterator[None]:
    """Inside, what edgeprune's loggers say is shown as it comes, from INFO on; it reaches no other handler, and so no line
    comes twice where a library has set up logging for itself."""
    handler, level, propagates = ProgressHandler(), ROOT.level, ROOT.propagate
    ROOT.addHandler(handler)
    ROOT.setLevel(logging.INFO)
    ROOT.propagate = False
    try:
        yield
    finally:
        ROOT.removeHandler(handler)
        ROOT.setLevel(level)
        ROOT.propagate = propagates


@contextmanager
def headed(heading: str) -> Iterator[None]:
    """Inside, lines of progress begin with `heading: `."""
    token = _heading.set(f"{heading}: ")
    try:
        yield
    finally:
        _heading.reset(token)
