"""`run --idle`: what the machine takes while no camera is decoded."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from edgeprune.runtime.cameras.source import FrameSource, Picture
from edgeprune.runtime.meters import Energy, Meter
from tests import bundles
from tests.cli.conftest import Type

CAMERA = "rtsp://camera.local/stream"
IDLE = Energy("measured by a fake", {"power": 2.0}, 2.0, ("power",), 11, 1.0, 1.0)


class Camera(FrameSource):
    """A live one, of a frame a second: none is dropped while the run begins, however slow the machine is."""

    made: ClassVar[list["Camera"]] = []

    def __init__(self) -> None:
        super().__init__(CAMERA, live=True, fps=1)
        self.read, self.closed = 0, False
        Camera.made.append(self)

    def one_pass(self) -> Iterator[Picture]:
        while True:
            self.read += 1
            yield Picture(bundles.frame_with(3))
            time.sleep(1.0)

    def close(self) -> None:
        super().close()
        self.closed = True


@pytest.mark.parametrize("several", [False, True])
def test_idle_is_measured_while_no_camera_is_read_and_counts_no_frame_as_dropped(
    edgeprune: Type, tiny: Path, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    monkeypatch.setattr(Camera, "made", [])
    for module in ("runtime.opening", "runtime.several.opening"):
        monkeypatch.setattr(f"edgeprune.{module}.open_source", lambda *_: Camera())

    def idle(meter: Meter, seconds: float) -> Energy:
        assert Camera.made, "a camera that is not there is said at once"
        time.sleep(0.2)
        assert all(each.closed and not each.read for each in Camera.made)
        return IDLE

    monkeypatch.setattr("edgeprune.cli.run.measure_idle", idle)
    Path("watts").write_text("5\n")
    Path("run.yaml").write_text(
        f"bundle: {tiny}\nmeter: file:watts\ncameras: {{front: '{CAMERA}', rear: '{CAMERA}'}}\n"
    )
    which = ("--config", "run.yaml") if several else ("--bundle", tiny, "--camera", CAMERA, "--meter", "file:watts")
    said = edgeprune("run", *which, "--idle", 5, "--frames", 1, "--json")
    assert said.code == 0, said.err
    summary = json.loads(said.out)
    assert (summary["frames"], summary["dropped"], summary["energy"]["idle_w"]) == (1, 0, 2.0)
