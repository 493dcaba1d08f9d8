"""What decodes: software, hardware that is a fake, GStreamer's by fake bindings; and frames that come scaled."""

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeprune.base.errors import InputError, RunError
from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.cameras import Wanted, decoder, decoding, gstreamer, open_source, video
from edgeprune.runtime.cameras.capture import EveryFrame
from edgeprune.runtime.cameras.decoding import AUTO, GSTREAMER, SOFTWARE, Decoding, Device, find_device, read_decoding
from edgeprune.runtime.cameras.pyav import inside
from tests.runtime.cameras.conftest import FPS, HEIGHT, WIDTH, moving_stripes, read_until_error
from tests.runtime.cameras.test_csi import install

av = pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")
WITHIN = (HEIGHT // 2, WIDTH // 2)
MakeVideo = Callable[..., Path]


@pytest.fixture(autouse=True)
def looked_for_anew() -> Iterator[None]:
    decoding._refusal.cache_clear()
    looked_up = decoding._refusal
    yield
    looked_up.cache_clear()


@pytest.mark.parametrize(
    ("typed", "by", "scaled"),
    [
        ("auto", AUTO, False),
        ("scaled", AUTO, True),
        ("cuda,scaled", "cuda", True),
        ("scaled, software", SOFTWARE, True),
    ],
)
def test_what_is_typed(typed: str, by: str, scaled: bool) -> None:
    assert read_decoding(typed) == Decoding(by, scaled)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("cude", "unknown --decode 'cude'; choices: auto, .*did you mean 'cuda'"),
        ("auto,software", "one way, and `scaled` where it is wanted"),
        ("scaled,scaled", "one way, and"),
        ("", "unknown --decode"),
    ],
)
def test_what_cannot_be(typed: str, line: str) -> None:
    with pytest.raises(InputError, match=line):
        read_decoding(typed)


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg", "libx264"])
def test_frames_that_come_scaled_are_as_the_fit_makes_them(make_video: MakeVideo, codec: str) -> None:
    path = str(make_video("a.mkv", codec=codec, frames=4))
    name = "h264" if codec == "libx264" else codec
    with EveryFrame(open_source(path)) as whole, EveryFrame(open_source(path, scaled_to(WITHIN))) as small:
        pairs = [(whole.get(9), small.get(9)) for _ in range(4)]
        assert whole.decoder == f"{name} (software, 1 thread)"
        assert small.decoder == f"{name} (software, 1 thread), {WIDTH}x{HEIGHT} scaled to {WITHIN[1]}x{WITHIN[0]}"
    for one, other in pairs:
        assert one and other
        fitted_HW3 = Preprocess(*WITHIN).fit(one[0].image_HW3)
        assert other[0].image_HW3.shape == fitted_HW3.shape
        # of noise, whose chroma is a quarter; of another frame it is 60
        assert np.abs(fitted_HW3.astype(int) - other[0].image_HW3).mean() < 10
        assert other[0].presentation_s == one[0].presentation_s


def scaled_to(within: tuple[int, int], by: str = SOFTWARE) -> Wanted:
    return Wanted(within=within, decoding=Decoding(by, scaled=True))


@pytest.mark.parametrize(
    ("within", "size", "turned", "to"),
    [
        ((384, 512), (1920, 1080), False, (512, 288)),
        ((384, 512), (1080, 1920), True, (288, 512)),  # shown 1920 wide: letterboxed as that, and turned after
        ((384, 512), (1080, 1920), False, (216, 384)),
        ((384, 512), (512, 288), False, None),
        ((384, 512), (320, 240), False, None),  # never larger
        ((400, 720), (1280, 720), False, (720, 400)),  # 405 rows, by no more than `STRETCH`
    ],
)
def test_the_size_that_frames_are_scaled_to(
    within: tuple[int, int], size: tuple[int, int], turned: bool, to: tuple[int, int] | None
) -> None:
    assert inside(within, *size, turned) == to
    if to:
        seen = (to[0], to[1]) if turned else (to[1], to[0])
        placed = Preprocess(*within).placement(*seen)
        assert (placed.height, placed.width) == seen  # the fit has nothing left to scale


def test_a_frame_that_is_small_is_not_scaled(make_video: MakeVideo) -> None:
    source = open_source(str(make_video(frames=2)), scaled_to((384, 512)))
    assert next(source).image_HW3.shape == (HEIGHT, WIDTH, 3)
    assert source.decoder == "mpeg4 (software, 1 thread), not scaled: it is small"


# --- hardware by PyAV ---


def fake_device(monkeypatch: pytest.MonkeyPatch, gives: str) -> None:
    """VAAPI, as whose frames count those of that format; in truth software decodes."""
    monkeypatch.setattr(decoding, "SEMI_PLANAR", (gives,))
    device = Device("vaapi", object())
    monkeypatch.setattr(decoder, "find_device", lambda wanted: device if wanted.by != SOFTWARE else None)
    monkeypatch.setattr(video, "find_device", lambda wanted: device if wanted.by != SOFTWARE else None)
    monkeypatch.setattr(video, "accel_of", lambda wanted: {})


@pytest.mark.parametrize("by", [AUTO, "vaapi"])
def test_hardware_is_named(
    make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, by: str
) -> None:
    caplog.set_level(logging.INFO, "edgeprune")
    fake_device(monkeypatch, "yuv420p")
    path = make_video(frames=6)
    source = open_source(str(path), Wanted(loop=True, decoding=Decoding(by)))
    assert [next(source).image_HW3.shape for _ in range(13)] == 13 * [(HEIGHT, WIDTH, 3)]
    assert source.decoder == "mpeg4 via vaapi" and caplog.messages == [
        f"{path}: mpeg4 via vaapi"
    ]  # once, not each pass
    source.close()


def test_a_device_that_falls_back_to_software(make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_device(monkeypatch, "nv12")
    path = str(make_video(frames=6))
    source = open_source(path, Wanted(decoding=Decoding(AUTO)))
    assert len(list(source)) == 6 and source.decoder == "mpeg4 (software, 1 thread)"
    with pytest.raises(
        InputError, match=r"--decode vaapi does not decode .* \(mpeg4 is decoded by software\); auto takes"
    ):
        next(open_source(path, Wanted(decoding=Decoding("vaapi"))))


def test_a_device_that_fails_leaves_the_whole_file_to_software(
    make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a driver that opens, and refuses the first frame."""

    class Broken(decoder.Decoder):
        def __init__(self, *given: Any, **named: Any):
            super().__init__(*given, **named)
            if self._device:
                self._codec = SimpleNamespace(name="mpeg4", decode=self.refuse)

        def refuse(self, packet: Any) -> None:
            raise av.error.OSError(5, "Input/output error")

    caplog.set_level(logging.INFO, "edgeprune")
    fake_device(monkeypatch, "nv12")
    monkeypatch.setattr(video, "Decoder", Broken)
    path = str(make_video(frames=6))
    source = open_source(path, Wanted(decoding=Decoding(AUTO)))
    assert [frame.index for frame in source] == list(range(6)) and not source.damaged
    assert source.decoder == "mpeg4 (software, 1 thread)"
    assert caplog.messages == [f"{path}: hardware does not decode it (Input/output error); software does"]


def test_jpegs_are_decoded_by_software_which_notices_damage(
    make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_device(monkeypatch, "yuvj420p")
    path = str(make_video("a.mkv", codec="mjpeg", frames=2))
    source = open_source(path, Wanted(decoding=Decoding(AUTO)))
    assert len(list(source)) == 2 and source.decoder == "mjpeg (software, 1 thread)"
    with pytest.raises(InputError, match="mjpeg: damage is noticed by software alone"):
        open_source(path, Wanted(decoding=Decoding("vaapi")))


def test_what_is_not_here_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    names = av.codec.hwaccel.hwdevices_available() if hasattr(av.codec, "hwaccel") else []
    if "vdpau" not in names:
        with pytest.raises(
            InputError, match="--decode vdpau: it is not here .*PyAV was built without it.; --decode auto"
        ):
            find_device(Decoding("vdpau"))
    monkeypatch.setitem(sys.modules, "gi", None)
    with pytest.raises(InputError, match="--decode gstreamer: it is not here .*bindings cannot be imported"):
        find_device(Decoding(GSTREAMER))
    assert find_device(Decoding()) is None


def test_gstreamer_is_looked_for_on_a_jetson_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(name: str) -> str:
        asked.append(name)
        return "none"

    monkeypatch.setattr(decoding, "_refusal", refuse)
    for jetson in (True, False):
        monkeypatch.setattr(decoding, "is_jetson", lambda there=jetson: there)
        assert find_device(Decoding(AUTO)) is None
    assert asked == [GSTREAMER, *decoding.TRIED]


# --- GStreamer ---


class FakeJetson(ModuleType):
    """As much of `gi.repository.Gst` as the decoder uses. Each frame is a grey of its number, `delay` packets late.

    fails: after so many frames its bus has an error; silent: no frame ever comes; stops: none after so many; loses: one packet
    of so many has none.
    """

    def __init__(
        self,
        delay: int = 0,
        fails: int | None = None,
        silent: bool = False,
        stops: int | None = None,
        loses: int | None = None,
    ):
        super().__init__("Gst")
        self.delay, self.fails, self.silent, self.loses, self.pushed = delay, fails, silent, loses, 0
        self.stops = 0 if silent else stops
        self.description, self.states, self.count, self.ended = "", [""], 0, False
        self.inside: deque[int] = deque()
        self.State = SimpleNamespace(PLAYING="playing", NULL="null")
        self.StateChangeReturn = SimpleNamespace(FAILURE="failure")
        self.MapFlags, self.MessageType = SimpleNamespace(READ=1), SimpleNamespace(ERROR=2)
        self.ElementFactory = SimpleNamespace(find=lambda name: name)
        self.Buffer = SimpleNamespace(new_wrapped=lambda data: SimpleNamespace(data=data, pts=None))

    def init(self, arguments: None) -> None: ...

    def parse_launch(self, description: str) -> "FakeJetson":
        self.description, self.ended, self.count = description, False, 0
        self.inside.clear()
        return self

    def get_by_name(self, name: str) -> "FakeJetson":
        assert f"name={name}" in self.description
        return self

    def set_state(self, state: str) -> str:
        self.states.append(state)
        return "async"

    def get_bus(self) -> "FakeJetson":
        return self

    def pop_filtered(self, kind: int) -> Any:
        failed = self.fails is not None and self.count >= self.fails
        return SimpleNamespace(parse_error=lambda: ("NVDEC stopped", "debug")) if failed else None

    def emit(self, signal: str, *given: Any) -> Any:
        if signal == "push-buffer":
            assert given[0].data.startswith((b"\0\0\0\1", b"\0\0\1"))  # a byte stream
            self.pushed += 1
            if self.loses and self.pushed % self.loses == 0:
                return None
            self.inside.append(given[0].pts)
            self.inside = deque(sorted(self.inside))  # as they are shown
        elif signal == "end-of-stream":
            self.ended = True
        elif self.inside and self.count != self.stops and (self.ended or len(self.inside) > self.delay):
            return self._sample(self.inside.popleft())
        return None

    def _sample(self, shown_ns: int) -> Any:
        bgrx_HW4 = np.full((16, 24, 4), self.count, np.uint8)
        self.count += 1
        sizes = {"height": 16, "width": 24}
        mapped = (True, SimpleNamespace(data=bgrx_HW4.tobytes()))
        buffer = SimpleNamespace(map=lambda flags: mapped, unmap=lambda memory: None, pts=shown_ns)
        structure = SimpleNamespace(get_value=sizes.__getitem__)
        return SimpleNamespace(
            get_caps=lambda: SimpleNamespace(get_structure=lambda index: structure), get_buffer=lambda: buffer
        )


@pytest.fixture
def h264(make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> Path:
    if "libx264" not in av.codecs_available:
        pytest.skip("this PyAV has no libx264")
    monkeypatch.setattr(gstreamer, "WAIT_S", 0.0)
    monkeypatch.setattr(decoding, "is_jetson", lambda: True)
    return make_video("a.mp4", codec="libx264", frames=40)


@pytest.mark.parametrize("delay", [3, 6])  # libx264 by default shows a frame up to two later
def test_a_jetson_decodes_a_file(h264: Path, monkeypatch: pytest.MonkeyPatch, delay: int) -> None:
    gst: Any = install(monkeypatch, FakeJetson(delay))  # type: ignore[arg-type]
    source = open_source(str(h264), Wanted(within=(16, 24), decoding=Decoding(AUTO, scaled=True)))
    frames = list(source)
    assert gst.description == (
        "appsrc name=source format=time caps=video/x-h264,stream-format=byte-stream,alignment=au ! h264parse ! nvv4l2decoder ! "
        "nvvidconv ! video/x-raw,format=BGRx,width=24,height=16 ! appsink name=sink sync=false"
    )
    assert source.decoder == "h264 via gstreamer, 96x64 scaled to 24x16" and gst.states[-1] == "null"
    assert [int(frame.image_HW3[0, 0, 0]) for frame in frames] == list(range(40)) and not source.damaged
    assert [frame.presentation_s for frame in frames] == pytest.approx([index / FPS for index in range(40)], abs=1e-6)


def test_packets_without_a_frame_are_not_summed_up(
    h264: Path, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where frames went on, the 33rd such packet of a stream ended it, hours later."""
    install(monkeypatch, FakeJetson(loses=3))  # type: ignore[arg-type]
    path = make_video("b.mp4", codec="libx264", frames=120)
    assert read_until_error(open_source(str(path), Wanted(decoding=Decoding(AUTO)))) == (80, None)
    install(monkeypatch, FakeJetson(stops=80))  # type: ignore[arg-type]
    count, error = read_until_error(open_source(str(path), Wanted(decoding=Decoding(AUTO))))
    assert count <= 80 and "via gstreamer failed in" in str(error)
    assert "no frame of the last 33 packets came out of it" in str(error)


@pytest.mark.parametrize(("patience", "why"), [(90, "it gave no frame"), (20, "no frame of 20 packets")])
def test_a_jetson_that_gives_nothing_leaves_it_to_software(
    h264: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, patience: int, why: str
) -> None:
    """A first frame may be that of the next key frame, three seconds later: 33 packets were too few."""
    monkeypatch.setattr(decoder, "MOST_WAITING", patience)
    caplog.set_level(logging.INFO, "edgeprune")
    install(monkeypatch, FakeJetson(silent=True))  # type: ignore[arg-type]
    source = open_source(str(h264), Wanted(decoding=Decoding(AUTO)))
    frames = list(source)
    assert len(frames) == 40 and not source.damaged and source.decoder == "h264 (software, 1 thread)"
    assert np.abs(frames[20].image_HW3.astype(int) - moving_stripes(20)).mean() < 30
    assert caplog.messages[0].endswith(f"hardware does not decode it ({why}); software does")
    with pytest.raises(InputError, match=rf"--decode gstreamer does not decode .*{why}"):
        next(open_source(str(h264), Wanted(decoding=Decoding(GSTREAMER))))


def test_a_jetson_that_fails_in_the_middle(h264: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeJetson(fails=10))  # type: ignore[arg-type]
    count, error = read_until_error(open_source(str(h264), Wanted(decoding=Decoding(AUTO))))
    assert 8 <= count <= 10 and isinstance(error, RunError)
    assert "h264 via gstreamer failed in" in str(error) and "(NVDEC stopped); run again with --decode software" in str(
        error
    )


def test_what_a_jetson_has_no_parser_for_is_softwares(make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    gst: Any = install(monkeypatch, FakeJetson())  # type: ignore[arg-type]
    monkeypatch.setattr(decoding, "is_jetson", lambda: True)
    path = str(make_video(frames=3))
    source = open_source(path, Wanted(decoding=Decoding(AUTO)))
    assert len(list(source)) == 3 and source.decoder == "mpeg4 (software, 1 thread)" and not gst.description
    with pytest.raises(InputError, match="mpeg4 is decoded by software"):
        next(open_source(path, Wanted(decoding=Decoding(GSTREAMER))))


def test_a_live_stream_falls_back_in_mid_stream(h264: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pipe, whose packets are gone once they were read: from the next key frame on software shows it."""
    install(monkeypatch, FakeJetson(silent=True))  # type: ignore[arg-type]
    stream = tmp_path / "a.ts"
    with av.open(str(stream), "w") as container:
        out = container.add_stream("libx264", rate=FPS)
        out.width, out.height, out.pix_fmt, out.options = WIDTH, HEIGHT, "yuv420p", {"g": "20", "bf": "0"}
        for index in range(180):
            container.mux(out.encode(av.VideoFrame.from_ndarray(moving_stripes(index), format="rgb24")))
        container.mux(out.encode(None))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    threading.Thread(target=lambda: fifo.write_bytes(stream.read_bytes()), daemon=True).start()
    source = open_source(str(fifo), Wanted(decoding=Decoding(AUTO)))
    frames = list(source)
    source.close()
    assert 75 <= len(frames) <= 87 and source.decoder == "h264 (software, 1 thread)"


def test_real_gstreamer_around_a_decoder_in_software(h264: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are bindings: what a Jetson's elements are handed, and what is read back."""
    gi = pytest.importorskip("gi", reason="needs GStreamer's Python bindings")
    gi.require_version("Gst", "1.0")
    from gi.repository import Gst

    Gst.init(None)
    elements = ("appsrc", "h264parse", "avdec_h264", "videoconvert", "appsink")
    if lack := [name for name in elements if Gst.ElementFactory.find(name) is None]:
        pytest.skip(f"this GStreamer has no {', '.join(lack)}")
    launch = Gst.parse_launch
    monkeypatch.setattr(gstreamer, "WAIT_S", 0.05)
    monkeypatch.setattr(gstreamer, "OF_DECODER", elements)
    monkeypatch.setattr(
        Gst,
        "parse_launch",
        lambda text: launch(text.replace("nvv4l2decoder", "avdec_h264").replace("nvvidconv", "videoconvert")),
    )
    by_software = list(open_source(str(h264)))
    source = open_source(str(h264), Wanted(decoding=Decoding(GSTREAMER)))
    frames = list(source)
    assert source.decoder == "h264 via gstreamer" and len(frames) == len(by_software)
    for frame, other in zip(frames, by_software, strict=True):
        assert frame.presentation_s == pytest.approx(other.presentation_s)
        assert np.abs(frame.image_HW3.astype(int) - other.image_HW3).mean() < 12  # of noise; colours are GStreamer's
