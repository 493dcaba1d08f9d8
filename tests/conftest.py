"""`--slow`: also the tests that take minutes."""

import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from tests.hearing import hearing


def pytest_configure() -> None:
    """A suite that nohup or a script started in the background has these ignored, and so would every program it starts: what
    is ignored stays so through an exec, what has a handler is as by default again. The suite itself outlives a hang-up."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, _go_on)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def _go_on(number: int, frame: FrameType | None) -> None:
    return


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also the tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="takes minutes; run with --slow"))


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The lines that edgeprune's loggers say in the test."""
    with hearing() as lines:
        yield lines
