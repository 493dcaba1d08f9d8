"""Loops through a stream whose answers are worse in each."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edgeprune.data.samples import UInt8
from edgeprune.lab.remembered import loops
from edgeprune.lab.remembered.clips import Clip
from edgeprune.lab.remembered.loops import Loop, LoopsRow, compare_loops, loop_on, score_loop
from edgeprune.lab.through_time.scores import IGNORED, Judged

CLIPS = [Clip("a", [np.zeros((1, 4, 3), np.uint8)] * 2), Clip("b", [np.zeros((1, 4, 3), np.uint8)])]
STREAM: Any = None


def ones(pixels: int) -> UInt8:
    return np.array([[int(at < pixels) for at in range(4)]], np.uint8)


def test_the_last_of_all_loops_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three frames a loop: in the second one pixel of four is wrong, in the third two, in the fourth three."""
    answers = iter([*[ones(3)] * 3, *[ones(2)] * 3, *[ones(1)] * 3])
    monkeypatch.setattr(loops, "segment", lambda stream, image_HW3: (next(answers), 1.0, 0.125))
    frames = Judged(dense=[ones(4)] * 3, true=[None] * 3, begins={0, 2})
    lines: list[str] = []
    assert loop_on(STREAM, CLIPS, frames, 4, lines.append) == Loop(0.25, None, 0.125)
    assert lines == ["loop 2 of 4: 75.00% equal", "loop 3 of 4: 50.00% equal", "loop 4 of 4: 25.00% equal"]
    assert next(answers, None) is None


def test_miou_is_of_the_frames_that_have_labels() -> None:
    """Class 1 has two of four pixels in one frame, and all of them right; class 0 has two, one of them called 1."""
    true = np.array([[1, 1, 0, 0]], np.uint8)
    frames = Judged(dense=[ones(3), ones(0)], true=[true, None])
    found = score_loop(frames, iter([(ones(3), 1.0), (ones(1), 0.5)]))
    assert found.tokens == 0.75
    assert found.equal == pytest.approx((1 + 3 / 4) / 2)
    assert found.miou == pytest.approx((2 / 3 + 1 / 2) / 2)
    unknown = Judged(dense=[ones(3)], true=[np.array([[1, 1, IGNORED, IGNORED]], np.uint8)])
    assert score_loop(unknown, [(ones(3), 1.0)]).miou == 1.0


def test_bars_beside_a_picture_are_not_compared() -> None:
    frames = Judged(dense=[ones(4)], true=[None], pictures=[(slice(0, 1), slice(2, 4))])
    assert score_loop(frames, [(ones(3), 1.0)]).equal == 0.5


def test_answers_are_not_kept() -> None:
    held = 0

    class Answer(np.ndarray):
        def __del__(self) -> None:
            nonlocal held
            held -= 1

    def answers() -> Iterator[tuple[UInt8, float]]:
        nonlocal held
        for _ in range(20):
            held += 1
            assert held <= 2
            yield ones(4).copy().view(Answer), 1.0

    assert score_loop(Judged(dense=[ones(4)] * 20, true=[None] * 20), answers()).equal == 1.0


def test_rows_are_of_the_figures_that_there_are() -> None:
    found = compare_loops(Loop(0.5, None, 0.125), Loop(0.25, None, 0.125), 10, 40)
    assert found == [LoopsRow("equal", 10, 400, 0.5, 0.25, -25.0), LoopsRow("tokens", 10, 400, 0.125, 0.125, 0.0)]
    both = compare_loops(Loop(0.5, 0.25, 1.0), Loop(0.5, 0.5, 0.5), 2, 3)
    assert [(row.figure, row.points) for row in both] == [("equal", 0.0), ("miou", 25.0), ("tokens", -50.0)]
