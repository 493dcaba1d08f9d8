"""What edgeprune says while a test runs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

ROOT = logging.getLogger("edgeprune")


class Ear(logging.Handler):
    """Keeps the messages of records."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def hearing() -> Iterator[list[str]]:
    """The lines that edgeprune's loggers say inside, as they come."""
    ear, level = Ear(), ROOT.level
    ROOT.addHandler(ear)
    ROOT.setLevel(logging.INFO)
    try:
        yield ear.lines
    finally:
        ROOT.removeHandler(ear)
        ROOT.setLevel(level)
