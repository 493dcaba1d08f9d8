"""`--slow`: also the tests that take minutes."""

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from types import FrameType

import pytest

from edgeprune.base import ending
from tests.hearing import hearing


def pytest_configure(config: pytest.Config) -> None:
    _leave_quantizers_uncompiled(config)
    _hear_signals()


def _leave_quantizers_uncompiled(config: pytest.Config) -> None:
    """NNCF compiles its quantizers once per machine, a minute of two cores and more than its own limit of five on a busy one.
    Where there is no compiler it computes the same with PyTorch's operations: so it does here, but for `--slow`. It would still
    try `torch.compile` in every process, for seconds and in vain."""
    if not config.getoption("--slow"):
        os.environ |= {"CXX": "false", "TORCH_COMPILE_DISABLE": "1"}
        os.environ.setdefault("TORCH_EXTENSIONS_DIR", tempfile.mkdtemp(prefix="edgeprune-no-extensions-"))


def _hear_signals() -> None:
    """A suite that nohup or a script started in the background has these ignored, and so would every program it starts: what
    is ignored stays so through an exec, what has a handler is as by default again. The suite itself outlives a hang-up."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, _go_on)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def _go_on(number: int, frame: FrameType | None) -> None:
    return


def pytest_collection_finish() -> None:
    """What is imported by now stays, and an export makes objects by the hundred thousand: looking through all of them as often
    as Python does by default takes an eighth of its time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also the tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="takes minutes; run with --slow"))


@pytest.fixture(autouse=True)
def no_signal_is_left() -> Iterator[None]:
    """A verb that ran in this process has its end behind it; a signal that a test sent itself would end each run after it."""
    yield
    left = ending.asked()
    ending.forget()
    assert not left, (
        "this test leaves a signal taken notice of; send it to a process of its own, or to a handler of its own"
    )


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The lines that edgeprune's loggers say in the test."""
    with hearing() as lines:
        yield lines
