"""The tiny bundle of the loop's tests."""

from tests.runtime.loop.conftest import bundle, session

__all__ = ["bundle", "session"]
