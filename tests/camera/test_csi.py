"""The CSI camera against a fake of GStreamer's Python bindings."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeprune.camera import CameraStalled, CameraUnplugged, open_source
from edgeprune.errors import InputError


class FakeGst(ModuleType):
    """As much of `gi.repository.Gst` as the camera uses. `script` holds what each pull gives: a BGRx array or None."""

    def __init__(self, script: list[Any], *, error: str | None = None, eos: bool = False, start: str = "ok"):
        super().__init__("Gst")
        self.script, self.error, self.eos, self.start = script, error, eos, start
        self.description = ""
        self.states: list[str] = []
        self.unmapped = 0
        self.State = SimpleNamespace(PLAYING="playing", NULL="null")
        self.StateChangeReturn = SimpleNamespace(FAILURE="failure")
        self.MapFlags = SimpleNamespace(READ=1)
        self.MessageType = SimpleNamespace(ERROR=2)

    def init(self, arguments: None) -> None: ...

    def parse_launch(self, description: str) -> "FakeGst":
        if self.start == "no plugin":
            raise RuntimeError('no element "nvarguscamerasrc"')
        self.description = description
        return self

    def get_by_name(self, name: str) -> "FakeGst":
        assert name == "sink"
        return self

    def set_state(self, state: str) -> str:
        self.states.append(state)
        return "failure" if self.start == "no sensor" else "async"

    def get_bus(self) -> "FakeGst":
        return self

    def pop_filtered(self, kind: int) -> Any:
        return SimpleNamespace(parse_error=lambda: (self.error, "debug")) if self.error else None

    def get_property(self, name: str) -> bool:
        return self.eos

    def emit(self, signal: str, timeout_ns: int) -> Any:
        assert (signal, timeout_ns) == ("try-pull-sample", 5_000_000_000)
        bgrx_HW4 = self.script.pop(0) if self.script else None
        if bgrx_HW4 is None:
            return None
        sizes = {"height": bgrx_HW4.shape[0], "width": bgrx_HW4.shape[1]}

        def unmap(memory: Any) -> None:
            self.unmapped += 1

        buffer = SimpleNamespace(map=lambda flags: (True, SimpleNamespace(data=bgrx_HW4.tobytes())), unmap=unmap)
        structure = SimpleNamespace(get_value=sizes.__getitem__)
        return SimpleNamespace(
            get_caps=lambda: SimpleNamespace(get_structure=lambda index: structure), get_buffer=lambda: buffer
        )


def install(monkeypatch: pytest.MonkeyPatch, gst: FakeGst) -> FakeGst:
    gi: Any = ModuleType("gi")
    gi.require_version = lambda name, version: None
    gi.repository = SimpleNamespace(Gst=gst)
    monkeypatch.setitem(sys.modules, "gi", gi)
    monkeypatch.setitem(sys.modules, "gi.repository", gi.repository)
    return gst


def picture() -> np.ndarray:
    bgrx_HW4 = np.zeros((16, 24, 4), np.uint8)
    bgrx_HW4[..., :3] = (1, 2, 3)  # blue, green, red
    return bgrx_HW4


def test_frames_are_rgb_and_the_sink_keeps_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    gst = install(monkeypatch, FakeGst([picture(), picture()], eos=True))
    source = open_source("csi://1?width=1920&height=1080&fps=60&mode=2&flip=2")
    assert gst.description.startswith(
        "nvarguscamerasrc sensor-id=1 sensor-mode=2 ! video/x-raw(memory:NVMM),width=1920,height=1080,framerate=60/1"
    )
    assert "nvvidconv flip-method=2 !" in gst.description
    assert "drop=true max-buffers=1" in gst.description
    frames = list(source)
    source.close()
    assert (source.live, source.fps) == (True, 60)
    assert frames[1].image_HW3.shape == (16, 24, 3) and tuple(frames[1].image_HW3[0, 0]) == (3, 2, 1)
    assert gst.states == ["playing", "null"] and gst.unmapped == 2


def test_stalled_and_unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeGst([]))
    with pytest.raises(CameraStalled, match="csi://0 gave no frame for 5 s"):
        next(open_source("csi://0"))
    install(monkeypatch, FakeGst([], error="Disconnected"))
    with pytest.raises(CameraUnplugged, match=r"csi://0 is gone \(Disconnected\)"):
        next(open_source("csi://0"))


def test_no_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gi", None)
    with pytest.raises(InputError, match=r"GStreamer bindings, which cannot be imported \(import of gi halted"):
        open_source("csi://0")


@pytest.mark.parametrize(
    ("uri", "start", "message"),
    [
        ("csi://0", "no plugin", r'cannot open csi://0 \(no element "nvarguscamerasrc"\).*gst-launch-1.0'),
        ("csi://0", "no sensor", "csi://0 does not start; is the sensor connected"),
        ("csi://front", "ok", "no sensor number in csi://front; type csi://0"),
        ("csi://0?widht=640", "ok", "did you mean 'width'"),
        ("csi://0?flip=8", "ok", "flip='8' in csi://0.*: a whole number from 0 to 7 is expected"),
    ],
)
def test_bad_camera(monkeypatch: pytest.MonkeyPatch, uri: str, start: str, message: str) -> None:
    install(monkeypatch, FakeGst([], start=start))
    with pytest.raises(InputError, match=message):
        open_source(uri)
