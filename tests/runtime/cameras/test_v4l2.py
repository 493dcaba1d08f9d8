"""V4L2 cameras: FFmpeg's own input and our ioctls, against a fake driver that another process preloads."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.lab.faults.preloaded import compiled
from edgeprune.runtime.cameras import Wanted, kind_of, open_source
from edgeprune.runtime.cameras.v4l2 import Asked, read_asked
from edgeprune.runtime.cameras.v4l2_modes import Mode
from tests.runtime.cameras.conftest import moving_stripes

ROOT = Path(__file__).parents[3]
# what each test runs: `device` is the fake one, `frames(uri, count)` reads and tells of each (shape, age in ms)
BEGIN = """
import json, os, sys, time
from pathlib import Path
from edgeprune.runtime.cameras import Wanted, open_source, v4l2
from edgeprune.runtime.cameras.capture import NewestFrame
from edgeprune.runtime.cameras.reconnect import Reconnecting
from edgeprune.base.errors import EdgepruneError
device = os.environ["FAKE_V4L2"]
v4l2.DEVICES, v4l2.NAMED = device, (device + "-by-id",)
v4l2.is_device = lambda uri: True

def frames(uri, count, **wanted):
    source = open_source(uri, Wanted(**wanted))
    told = []
    try:
        for frame, _ in zip(source, range(count)):
            told.append((frame.image_HW3.shape[:2], (time.monotonic_ns() - frame.capture_ns) / 1e6))
    except EdgepruneError as error:
        told.append(f"{type(error).__name__}: {error}")
    source.close()
    return {"codec": source._stream.codec_context.name, "fps": source.fps, "damaged": source.damaged, "frames": told}

def refusal(uri):
    try:
        open_source(uri)
    except EdgepruneError as error:
        return str(error)
"""
Fake = Callable[..., Any]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")
    try:
        return compiled("camera", tmp_path_factory.mktemp("v4l2"))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no C compiler, or no headers of Linux ({error})")


@pytest.fixture
def fake(library: Path, tmp_path: Path) -> Fake:
    """fake(script, fps=, frames=, then=): what the script's `result` is, in a process that has such a camera."""
    device = tmp_path / "video0"
    device.write_bytes(bytes(4 << 16))
    for index in range(3):
        Image.fromarray(moving_stripes(index)).save(tmp_path / f"{index}.jpg", quality=90)

    def run(script: str, **about: Any) -> Any:
        environment = os.environ | {f"FAKE_{key.upper()}": str(value) for key, value in about.items()}
        environment |= {"FAKE_V4L2": str(device), "FAKE_JPEGS": str(tmp_path), "LD_PRELOAD": str(library)}
        code = f"{BEGIN}\n{script}\nprint(json.dumps(result))"
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_format_size_and_rate_are_negotiated(fake: Fake) -> None:
    result = fake("""
result = {query: frames(device + query, 2) for query in ("", "?size=96x64", "?size=96x64&format=yuyv", "?fps=30&format=mjpeg")}
result["small"] = frames(device + "?fps=30", 1, within=(20, 40))
result["refused"] = refusal(device + "?size=640x480&fps=30")
result["slow"] = refusal(device + "?format=yuyv&size=96x64&fps=30")
""")
    chosen = {
        query: (each["codec"], each["fps"], each["frames"][0][0]) for query, each in result.items() if "codec" in each
    }
    assert chosen == {
        "": ("rawvideo", 30, [32, 48]),  # as its driver was set
        "?size=96x64": ("mjpeg", 30, [64, 96]),  # uncompressed it has 5 frames a second
        "?size=96x64&format=yuyv": ("rawvideo", 5, [64, 96]),
        "?fps=30&format=mjpeg": ("mjpeg", 30, [64, 96]),
        "small": ("rawvideo", 30, [32, 48]),  # fills the model's input
    }
    offers = "yuyv 96x64 at 5 fps; yuyv 48x32 at 30 fps; mjpeg 96x64 at 30 fps; mjpeg 48x32 at 30 fps"
    assert result["refused"].endswith(f"video0 has no mode of 640x480 at 30 fps; it offers: {offers}")
    assert "has no yuyv of 96x64 at 30 fps; it offers: yuyv" in result["slow"]
    ages_ms = [age_ms for _, age_ms in result[""]["frames"]]
    assert all(40 <= age_ms < 1000 for age_ms in ages_ms)  # the driver's time: exposed 40 ms before it was given


def test_five_frames_a_second_in_the_dark_are_no_stall_and_damage_is_counted(fake: Fake, tmp_path: Path) -> None:
    data = bytearray((tmp_path / "1.jpg").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 60] = b"\xff\xd5" * 30
    (tmp_path / "1.jpg").write_bytes(data)
    result = fake("v4l2.READ_TIMEOUT_S = 1.0; result = frames(device + '?size=96x64', 4)", fps=5)
    assert result["fps"] == 30 and result["damaged"] == 1
    assert [shape for shape, _ in result["frames"]] == [[64, 96]] * 4


def test_a_stall_and_a_device_that_is_gone_are_told_apart(fake: Fake) -> None:
    script = "v4l2.READ_TIMEOUT_S = 0.3; result = frames(device, 9)['frames']"
    assert "CameraStalled: camera " in fake(script, frames=2, then="stall")[2]
    of_none = "v4l2.OPEN_TIMEOUT_S = v4l2.READ_TIMEOUT_S = 0.3; result = frames(device + '?size=96x64', 9)['frames']"
    assert "CameraStalled: camera " in fake(of_none, frames=0, then="stall")[0]
    assert "is gone (ENODEV: No such device); plug it in" in fake(script, frames=2, then="unplug")[2]


def test_unplugged_and_plugged_in_again(fake: Fake) -> None:
    """By its name, which is a link that comes and goes with it; a stalled one is let go of, so that it can be opened anew."""
    result = fake(
        """
from edgeprune.runtime.cameras import reconnect
reconnect.FIRST_PAUSE_S = reconnect.LONGEST_PAUSE_S = 0.05
v4l2.READ_TIMEOUT_S = 0.2
link = Path(device + "-by-id")
link.symlink_to(device)
capture = Reconnecting(open_source(str(link)), lambda: open_source(str(link)), 60)
gone = Path(device + ".gone")
result = []
for _ in range(9):
    got = capture.get(10.0)
    result.append((got[0].index, got[1], capture.reconnects))
    if len(result) == 5:
        link.unlink(), gone.touch()
        import threading
        threading.Timer(0.4, lambda: (gone.unlink(), link.symlink_to(device))).start()
capture.close()
""",
        frames=3,
        then="stall",
    )
    indices = [index for index, _, _ in result]
    assert indices == sorted(set(indices)) and result[-1][2] >= 2
    assert indices[-1] + 1 == len(result) + sum(dropped for _, dropped, _ in result)


# --- what is typed ---


def test_names_of_devices() -> None:
    for uri in (
        "0",
        "12",
        "/dev/video0",
        "/dev/v4l/by-id/usb-046d_C920-index0",
        "0?size=640x480",
        "/dev/v4l/by-path/x?fps=5",
    ):
        assert kind_of(uri) == "v4l2"


@pytest.mark.parametrize(
    ("query", "line"),
    [
        ("sise=1x1", "unknown option of 0: 'sise'; choices: size, fps, format; did you mean 'size'"),
        ("size=640", "size='640' is not WIDTHxHEIGHT in pixels; write it as size=1280x720"),
        ("size=0x9", "is not WIDTHxHEIGHT"),
        ("fps=-1", "fps='-1' is no rate up to 1000 frames a second; write it as fps=30"),
        ("fps=99999", "is no rate"),
        ("format=mjpg", "unknown format of a camera 'mjpg'; choices: yuyv, .*did you mean 'mjpeg'"),
    ],
)
def test_options_that_cannot_be(query: str, line: str) -> None:
    with pytest.raises(InputError, match=line):
        open_source(f"0?{query}", Wanted())


def test_options() -> None:
    assert read_asked("0", "") == Asked()
    assert read_asked("0", "size=1280x720&fps=29.97&format=MJPEG") == Asked((1280, 720), 29.97, "mjpeg")


def test_modes_as_people_read_them() -> None:
    assert str(Mode("mjpeg", 640, 480, (30.0, 7.5))) == "mjpeg 640x480 at 30, 7.5 fps"
    ranged = Mode("yuyv", 16, 16, most=(1920, 1080))
    assert str(ranged) == "yuyv 16x16 to 1920x1080" and ranged.has_size(640, 480) and not ranged.has_size(4000, 480)
