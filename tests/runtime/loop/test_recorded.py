"""What is said of a camera's frames at the end of its run."""

from contextlib import closing
from dataclasses import replace

import pytest

from edgeprune.runtime.cameras.capture import open_capture
from edgeprune.runtime.outputs import Outputs
from edgeprune.runtime.recorded import Recorded
from tests.runtime.loop.fakes import Scripted
from tests.runtime.sinks.found import Found

HINT = "- is live; type this"
SAID = f"of 100 frames were dropped, as they came all at once: {HINT}"


@pytest.mark.parametrize(
    ("rows", "seconds", "fps", "hint", "lines"),
    [
        ([(99, 99)], 0.0, 15.0, HINT, [f"99 {SAID}"]),
        ([(50, 50), (99, 48)], 0.5, 15.0, HINT, [f"98 {SAID}"]),
        ([(50, 50), (99, 48)], 0.5, None, HINT, [f"98 {SAID}"]),
        ([(50, 50), (99, 48)], 49 / 15, 15.0, HINT, []),  # at its own rate: this machine is slow
        ([(50, 50), (99, 48)], 0.5, 15.0, None, []),  # a camera
        ([(index, 4) for index in range(4, 100, 5)], 0.5, 15.0, HINT, []),  # many frames were processed
        ([(9, 9)], 0.0, 15.0, HINT, []),  # few were dropped
    ],
)
def test_frames_that_nobody_paced(
    said: list[str],
    rows: list[tuple[int, int]],
    seconds: float,
    fps: float | None,
    hint: str | None,
    lines: list[str],
) -> None:
    """`rows`: the index of each frame, and how many were dropped before it; evenly over so many seconds."""
    source = Scripted(0, live=True, fps=fps)
    source.unpaced = hint
    with closing(open_capture(source)) as capture:
        recorded = Recorded(capture, Outputs({}, source))
        for at, (index, dropped) in enumerate(rows):
            result = Found(index)
            captured_ns = round(at / max(1, len(rows) - 1) * seconds * 1e9)
            result.facts = replace(result.facts, frame=replace(result.frame, capture_ns=captured_ns))
            recorded.row(result, dropped, 0.0)
        assert recorded.end(None, failed=False) is None
    assert said == lines
