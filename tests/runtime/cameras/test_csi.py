"""The CSI camera against a fake of GStreamer's Python bindings."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.runtime.cameras import CameraStalled, CameraUnplugged, Wanted, open_source
from edgeprune.runtime.cameras.reconnect import Reconnecting
from tests import bundles


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
        self.lacking: tuple[str, ...] = ()
        self.ElementFactory = SimpleNamespace(find=lambda name: None if name in self.lacking else name)

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
    frames = [next(source), next(source)]
    with pytest.raises(CameraUnplugged, match="camera csi://1.* ended its stream"):
        next(source)
    source.close()
    assert (source.live, source.fps) == (True, 60)
    assert frames[1].image_HW3.shape == (16, 24, 3) and tuple(frames[1].image_HW3[0, 0]) == (3, 2, 1)
    assert gst.states == ["playing", "null"] and gst.unmapped == 2


@pytest.mark.parametrize(
    ("uri", "within", "size"),
    [
        ("csi://0", (384, 512), (512, 288)),  # 1280x720: the whole width
        ("csi://0?width=1920&height=1080", (640, 640), (640, 360)),
        ("csi://0?width=1640&height=1232", (384, 512), (512, 384)),
        ("csi://0?width=1920&height=1080", (518, 518), (518, 292)),  # 291.4, in whole pairs
        ("csi://0?flip=1", (384, 512), (216, 384)),  # turned before it is scaled
        ("csi://0?flip=3&width=1920&height=1080", (512, 512), (288, 512)),
        ("csi://0", (720, 1280), None),  # as it is
        ("csi://0", (1024, 2048), None),  # never larger
        ("csi://0?scale=0", (384, 512), None),
        ("csi://0", None, None),
    ],
)
def test_nvvidconv_scales_to_what_the_model_needs(
    monkeypatch: pytest.MonkeyPatch, uri: str, within: tuple[int, int] | None, size: tuple[int, int] | None
) -> None:
    gst = install(monkeypatch, FakeGst([]))
    source = open_source(uri, Wanted(within=within))
    after = gst.description.split("nvvidconv ")[1]
    if size is None:
        assert "video/x-raw,format=BGRx ! appsink" in after and source.note is None
    else:
        assert f"video/x-raw,format=BGRx,width={size[0]},height={size[1]} ! appsink" in after
        assert (
            source.note is not None
            and f"come scaled to {size[0]}x{size[1]}" in source.note
            and "scale=0" in source.note
        )


def test_what_is_lacking_of_gstreamer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    gst = install(monkeypatch, FakeGst([]))
    gst.lacking = ("nvarguscamerasrc", "nvvidconv")
    with pytest.raises(
        InputError, match="GStreamer has no nvarguscamerasrc, nvvidconv; .*: sudo apt install nvidia-l4t-gstreamer$"
    ):
        open_source("csi://0")


def test_a_camera_that_fails_is_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.runtime.cameras.reconnect.FIRST_PAUSE_S", 0.01)
    gst = install(monkeypatch, FakeGst([picture(), None, picture()], error="Argus: the daemon ended"))
    with Reconnecting(open_source("csi://0"), lambda: open_source("csi://0"), give_up_s=60) as capture:
        got = [capture.get(10.0), capture.get(10.0)]
        assert [each and each[0].index for each in got] == [0, 1] and capture.reconnects == 1
    assert gst.states[:3] == ["playing", "null", "playing"]


# A GStreamer whose plug-in prints from C, on descriptor 1, before, while and after frames come.
PRINTING = """
import os
from types import SimpleNamespace as Of
import numpy as np

def loud(line):
    os.write(1, (line + "\\n").encode())

class Gst:
    State = Of(PLAYING=1, NULL=0)
    StateChangeReturn = Of(FAILURE=2)
    MapFlags = Of(READ=1)
    MessageType = Of(ERROR=2)
    ElementFactory = Of(find=lambda name: name)
    def init(arguments): loud("GST: init")
    def parse_launch(description): return Pipeline()

class Pipeline:
    def get_by_name(self, name): return self
    def set_state(self, state): loud(f"GST_ARGUS: state {state}")
    def get_property(self, name): return True
    def emit(self, signal, timeout_ns):
        loud("CONSUMER: a frame")
        buffer = Of(map=lambda flags: (True, Of(data=bytes(64 * 96 * 4))), unmap=lambda memory: None)
        size = {"height": 64, "width": 96}
        return Of(get_caps=lambda: Of(get_structure=lambda index: Of(get_value=size.get)), get_buffer=lambda: buffer)
"""


def test_standard_output_is_ours_alone(tmp_path: Path) -> None:
    """`run --json | jq` gets one object, whatever a plug-in prints."""
    bundles.write_bundle(tmp_path / "bundle")
    (tmp_path / "gi").mkdir()
    (tmp_path / "gi/__init__.py").write_text("def require_version(name, version): pass\n")
    (tmp_path / "gi/repository.py").write_text(PRINTING)
    command = "from edgeprune.cli import main; main()"
    words = ["run", "--bundle", "bundle", "--camera", "csi://0", "--frames", "3", "--meter", "none", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", command, *words],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] == 3
    assert all(line in done.stderr for line in ("GST: init", "CONSUMER: a frame", "GST_ARGUS: state 0"))


def test_stalled_and_unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeGst([]))
    with pytest.raises(CameraStalled, match="csi://0 gave no frame for 5 s"):
        next(open_source("csi://0"))
    install(monkeypatch, FakeGst([], error="Disconnected"))
    with pytest.raises(CameraUnplugged, match=r"csi://0 is gone \(Disconnected\)"):
        next(open_source("csi://0"))


def test_no_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gi", None)
    with pytest.raises(
        InputError,
        match=r"GStreamer's Python bindings, which cannot be imported \(import of gi halted.*: "
        r"sudo apt install python3-gi gir1\.2-gstreamer-1\.0, and",
    ):
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
