"""A few frames of a place: over the whole of a recording, over some time of a live camera."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeprune.base.errors import InputError, RunError
from edgeprune.runtime.cameras import CameraStalled, CameraUnplugged, Wanted, open_source, synthetic
from edgeprune.runtime.cameras.sampling import sample_frames
from edgeprune.runtime.cameras.source import FrameSource, Picture
from tests.runtime.cameras.conftest import moving_stripes

SPREAD = Wanted(spread=8)


class Ticking(FrameSource):
    """A live camera whose clock goes on by `step_s` with every frame, however fast they are taken."""

    def __init__(self, frames: int, step_s: float, then: BaseException | None = None):
        super().__init__("ticking", live=True, fps=None)
        self.frames, self.step_ns, self.then = frames, round(step_s * 1e9), then

    def one_pass(self) -> Iterator[Picture]:
        for _ in range(self.frames):
            yield Picture(np.zeros((2, 2, 3), np.uint8))
        if self.then:
            raise self.then


@pytest.fixture
def every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of `Ticking` are all taken, at the times of its own clock."""
    from edgeprune.runtime.cameras.capture import EveryFrame
    from edgeprune.runtime.cameras.source import Frame

    def ticked(source: Ticking) -> Frame:
        frame = FrameSource.__next__(source)
        return Frame(1 + frame.index * source.step_ns, frame.image_HW3, frame.index)

    monkeypatch.setattr(Ticking, "__next__", ticked)
    monkeypatch.setattr("edgeprune.runtime.cameras.sampling.open_capture", EveryFrame)


def test_frames_of_a_recording_are_spread_over_the_whole_of_it(make_video: Callable[..., Path]) -> None:
    source = open_source(str(make_video(frames=30)), SPREAD)
    frames = list(sample_frames(source, 8, 600, least=8))
    numbers = [0, 4, 8, 12, 17, 21, 25, 29]
    assert [frame.name for frame in frames] == [f"{number:08d}" for number in numbers]
    assert [frame.presentation_s for frame in frames] == pytest.approx([number / 25 for number in numbers])
    assert float(np.abs(frames[-1].image_HW3.astype(int) - moving_stripes(29)).mean()) < 20


def test_of_a_folder_no_other_image_is_read(tmp_path: Path) -> None:
    for index in range(15):
        Image.new("RGB", (32, 32)).save(tmp_path / f"{index:02d}.png")
    (tmp_path / "01.png").write_bytes(b"no image, and not among those that are spread")
    frames = list(sample_frames(open_source(str(tmp_path), SPREAD), 8, 600, least=8))
    assert [frame.name for frame in frames] == [f"{index:02d}.png" for index in range(0, 15, 2)]


def test_a_street_without_an_end_is_no_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blank:
        def frame(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            return np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)

    monkeypatch.setitem(synthetic.SCENES, "street", lambda *_: Blank())
    with pytest.raises(InputError, match=r"street\?seed=1 has no end that frames could be spread over.*frames=600"):
        open_source("synthetic://street?seed=1", SPREAD)
    source = open_source("synthetic://street?height=32&width=32&frames=29", SPREAD)
    assert [frame.name for frame in source] == [f"{number:06d}" for number in range(0, 29, 4)]


def test_a_recording_with_too_few_frames_is_one_line(make_video: Callable[..., Path]) -> None:
    source = open_source(str(make_video(frames=5)), SPREAD)
    with pytest.raises(InputError, match="stripes.mp4 has 5 frames; 8 or more are expected"):
        list(sample_frames(source, 64, 600, least=8))


def test_frames_of_a_live_camera_are_as_far_apart_as_was_asked_for(every_frame: None) -> None:
    """However many lie between, and where a pause came in between."""
    frames = list(sample_frames(Ticking(100, step_s=0.4), 8, 7.0, least=8))
    assert [frame.index for frame in frames] == [0, 3, 6, 9, 12, 15, 18, 21]


@pytest.mark.parametrize(
    ("then", "error", "line"),
    [
        (None, RunError, "ticking ended after 4 of 8 frames; check the camera"),
        (CameraUnplugged("it is gone"), CameraUnplugged, "it is gone"),
    ],
)
def test_a_live_camera_that_gives_no_more(
    every_frame: None, then: BaseException | None, error: type[Exception], line: str
) -> None:
    with pytest.raises(error, match=line):
        list(sample_frames(Ticking(10, step_s=0.4, then=then), 8, 7.0, least=8))


def test_a_live_camera_that_stalls(scripted: Callable[..., FrameSource], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.runtime.cameras.capture.STALL_S", 0.05)
    with pytest.raises(CameraStalled, match=r"no frame from scripted for 0\.05 s"):
        list(sample_frames(scripted(3, live=True, block=True), 8, 600, least=8))


def test_a_live_camera_that_is_lost_is_opened_anew(
    scripted: Callable[..., FrameSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeprune.runtime.cameras.reconnect.FIRST_PAUSE_S", 0.01)
    again = [scripted(1, live=True, then=CameraUnplugged("it is gone")) for _ in range(9)]
    first = scripted(1, live=True, then=CameraUnplugged("it is gone"))
    frames = list(sample_frames(first, 8, 0.0, least=8, opener=lambda: again.pop()))
    assert [frame.index for frame in frames] == list(range(8)) and len(again) == 2
