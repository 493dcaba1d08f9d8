"""What edgeprune's loggers say is a line of standard error in a command, and nothing in a library."""

import logging
import subprocess
import sys

import pytest

from edgeprune.base.progress import ROOT, headed, shown_progress

logger = logging.getLogger("edgeprune.somewhere.deep")


def test_a_line_each_as_it_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress():
        logger.info("100% of 3 {frames}")
        with headed("svit"):
            logger.warning("left out")
        logger.debug("nobody asked")
    logger.warning("after it")
    streams = capsys.readouterr()
    assert (streams.out, streams.err) == ("", "100% of 3 {frames}\nsvit: left out\n")


def test_a_library_that_set_up_logging_for_itself_repeats_no_line(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """`caplog` listens where `logging.basicConfig` does."""
    with pytest.raises(KeyboardInterrupt), shown_progress():
        logger.warning("once")
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "once\n" and caplog.messages == []
    logger.warning("again")
    assert caplog.messages == ["again"] and not [
        each for each in ROOT.handlers if type(each).__name__ == "ProgressHandler"
    ]


def test_who_uses_the_library_and_asks_for_nothing_hears_nothing() -> None:
    code = "import edgeprune, logging; logging.getLogger('edgeprune.train.trainer').warning('lost')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
