"""Which of two ways of a bundle a stream takes, frame by frame."""

import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgeprune.runtime.cameras.source import Frame
from edgeprune.runtime.running import Counted, Fitted, Running
from edgeprune.runtime.scene import SceneChange
from edgeprune.runtime.switching import LONGEST_WAIT, MOST_MOVING, PROVEN, WAIT, Switching

TOKENS = 9216
STILL_HW3 = np.full((384, 512, 3), 90, np.uint8)


class FakeSession:
    def __init__(self) -> None:
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1


class FakeRunning:
    """Answers with so many tokens as it is told."""

    governor = chooser = None
    buckets: Sequence[str] = ()
    bundle = None
    all_tokens = TOKENS
    tokens = TOKENS // 12

    def __init__(self, name: str) -> None:
        self.name, self.session, self.computed, self.wanted = name, FakeSession(), 0, 0
        self.scene = SceneChange()

    def fits(self, ahead: object) -> bool:
        return True

    def fit(self, frame: Frame) -> Fitted:
        return Fitted(frame.image_HW3, cast(Any, None), 1, 2)

    def process(self, frame: Frame, before: Counted, ahead: Fitted, whole: bool = False, began_ns: int = 0) -> Any:
        self.began_ns = began_ns
        if self.name == "memory":
            self.scene.look(frame.image_HW3, frame.image_HW3.shape[:2])
        return SimpleNamespace(
            by=f"{self.name} whole" if whole else self.name, facts=SimpleNamespace(tokens=self.computed)
        )


class Run:
    """A camera that stands, or moves so that `share` of the tokens change."""

    def __init__(self) -> None:
        self.memory, self.alone = FakeRunning("memory"), FakeRunning("alone")
        self.switching = Switching(cast(Running, self.memory), cast(Running, self.alone))
        self._number = 0

    def frames(self, count: int, share: float, moves: bool, held: float = 1.0) -> list[str]:
        """`held`: the share of the tokens that a budget lets a frame compute."""
        self.memory.wanted = round(share * self.memory.tokens)
        self.memory.computed = round(min(share, held) * TOKENS)
        found = []
        for _ in range(count):
            self._number += 1
            image_HW3 = STILL_HW3
            if moves:
                image_HW3 = np.roll(
                    np.kron(np.eye(16), np.ones((24, 32)))[..., None] * [200, 200, 200], 40 * self._number, 1
                )
            frame = Frame(0, image_HW3.astype(np.uint8), self._number, None)
            result: Any = self.switching.process(frame, Counted(self._number, 0))
            found.append(result.by)
        return found


def test_a_camera_that_stands_is_remembered() -> None:
    run = Run()
    assert set(run.frames(200, 0.06, moves=False)) == {"memory"} and run.switching.switches == 0


def test_a_camera_that_moves_is_not_remembered_where_a_budget_holds_the_tokens_down() -> None:
    assert Run().frames(30, 1.0, moves=True, held=0.06)[-1] == "alone"


def test_a_camera_that_moves_is_not_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    run = Run()
    with caplog.at_level(logging.INFO):
        assert run.frames(30, 1.0, moves=True) == ["memory"] * MOST_MOVING + ["alone"] * (30 - MOST_MOVING)
        again = run.frames(2 * WAIT + 5, 0.06, moves=False)
    assert again[: 2 * WAIT - 1] == ["alone whole", *["alone"] * (2 * WAIT - 2)] and again[-1] == "memory"  # a cut
    assert "over 25% of the tokens had to be computed in 7 of 7 frames: each frame is computed by itself" in caplog.text
    assert "the camera has stood for 20 frames" in caplog.text


def test_the_first_frame_after_a_cut_is_computed_whole_where_a_camera_moves_too() -> None:
    run = Run()
    run.frames(30, 1.0, moves=True)
    bright, dark = (Frame(0, np.full_like(STILL_HW3, level), 1, None) for level in (250, 10))
    seen = [run.switching.process(frame, Counted(1, 0)) for frame in (bright, bright, dark, dark, bright)]
    by = [cast(Any, result).by for result in seen]
    assert by == ["alone whole", "alone", "alone whole", "alone", "alone whole"]
    turning = [run.switching.process(frame, Counted(1, 0)) for frame in (dark, bright) * 5]  # every frame is new
    assert {cast(Any, result).by for result in turning} == {"alone"}


def test_a_frame_that_others_failed_on_is_late_by_that_either_way() -> None:
    run = Run()
    for way in (run.memory, run.alone):
        run.switching._take(cast(Running, way))
        run.switching.process(Frame(0, STILL_HW3.astype(np.uint8), 0, None), Counted(0, 0), began_ns=7)
        assert way.began_ns == 7


def test_the_first_frame_by_itself_is_no_cut() -> None:
    run = Run()
    run.frames(MOST_MOVING, 1.0, moves=True)
    dark = Frame(0, np.full_like(STILL_HW3, 10), 1, None)
    assert cast(Any, run.switching.process(dark, Counted(1, 0))).by == "alone"


def test_who_is_wrong_about_standing_waits_longer_each_time() -> None:
    """Few pixels change and most tokens do, as in front of a wall."""
    run = Run()
    by = run.frames(3000, 1.0, moves=False)
    waits = [len(each) for each in "".join(name[0] for name in by).split("m") if each]
    assert waits[:3] == [2 * WAIT - 1, 4 * WAIT - 1, 8 * WAIT - 1] and max(waits) < LONGEST_WAIT
    assert by.count("memory") < 0.035 * len(by)


def test_who_was_right_for_long_waits_as_at_first() -> None:
    run = Run()
    run.frames(20, 1.0, moves=True)
    run.frames(2 * WAIT + PROVEN, 0.06, moves=False)
    run.frames(20, 1.0, moves=True)
    assert run.frames(WAIT + 1, 0.06, moves=False)[-2:] == ["alone", "memory"]
