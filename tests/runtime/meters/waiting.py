"""Waiting for a meter's thread."""

import time
from collections.abc import Callable


def wait_until(true: Callable[[], bool]) -> None:
    """Ten seconds and no longer."""
    limit_s = time.monotonic() + 10
    while not true():
        assert time.monotonic() < limit_s
        time.sleep(0.001)
