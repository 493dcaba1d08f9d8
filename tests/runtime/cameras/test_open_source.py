from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.runtime.cameras import SOURCES, CameraStalled, CameraUnplugged, Wanted, open_source, v4l2
from edgeprune.runtime.cameras.live import LiveStream
from edgeprune.runtime.cameras.synthetic import there_and_back

STREET = "synthetic://street?seed=3&height=64&width=96"


def test_file_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "street.mp4").touch()
    with pytest.raises(InputError, match=r"did you mean '.*street\.mp4'\?; a camera is 0, /dev/video0, a video file"):
        open_source(str(tmp_path / "stret.mp4"))


def test_unknown_scheme() -> None:
    schemes = ", ".join(name for name, kind in SOURCES.items() if kind.scheme)
    with pytest.raises(InputError, match=f"unknown camera scheme 'rstp'; choices: {schemes}; did you mean 'rtsp'"):
        open_source("rstp://camera.local/stream")


# --- V4L2 ---


def test_camera_that_is_not_there_names_those_that_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "video2").touch()
    monkeypatch.setattr(v4l2, "DEVICES", str(tmp_path / "video*"))
    with pytest.raises(InputError, match=r"no camera at /dev/video7; cameras here: .*/video2; type"):
        open_source("7")


def test_no_camera_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v4l2, "DEVICES", str(tmp_path / "video*"))
    with pytest.raises(
        InputError, match=r"no camera at /dev/video0; no camera is connected.*synthetic://street\?seed=1"
    ):
        open_source("/dev/video0")


def test_device_that_is_no_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    (tmp_path / "video0").touch()
    (tmp_path / "video1").touch()
    monkeypatch.setattr(v4l2, "DEVICES", str(tmp_path / "video*"))
    with pytest.raises(InputError, match=r"video0 gives no video .*try .*/video1"):
        v4l2.open_v4l2(str(tmp_path / "video0"), Wanted())


class FakeContainer:
    """A live camera that gives one frame and then fails."""

    def __init__(self, failure: BaseException | None):
        codec = SimpleNamespace(
            name="mjpeg", codec=SimpleNamespace(intra_only=True), decode=lambda packet: packet.decode()
        )
        self.streams = SimpleNamespace(video=[SimpleNamespace(average_rate=30, codec_context=codec)])
        self.failure = failure
        self.closed = False

    def demux(self, video: int) -> Iterator[SimpleNamespace]:
        av = pytest.importorskip("av")

        def undecodable() -> None:
            raise av.error.InvalidDataError(1, "half a JPEG")

        yield SimpleNamespace(decode=undecodable)
        image_HW3 = np.full((16, 16, 3), 200, np.uint8)
        yield SimpleNamespace(decode=lambda: [av.VideoFrame.from_ndarray(image_HW3, format="rgb24")])
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        self.closed = True


def test_unplugged_while_running() -> None:
    av = pytest.importorskip("av")
    container = FakeContainer(av.error.OSError(19, "No such device"))
    source = LiveStream("0", container)
    assert source.live and source.fps == 30
    assert next(source).image_HW3.shape == (16, 16, 3)
    with pytest.raises(CameraUnplugged, match=r"camera 0 is gone \(ENODEV: No such device\)"):
        next(source)
    source.close()
    assert container.closed


def test_silent_and_ended_cameras_are_told_apart() -> None:
    av = pytest.importorskip("av")
    silent = LiveStream("rtsp://camera", FakeContainer(av.error.ExitError(1, "Immediate exit requested")))
    next(silent)
    with pytest.raises(CameraStalled, match="delivers no more frames"):
        next(silent)
    assert silent.damaged == 1  # the half of a JPEG
    ended = LiveStream("0", FakeContainer(None))
    next(ended)
    with pytest.raises(CameraUnplugged, match=r"camera 0 is gone \(it delivers nothing more\)"):
        next(ended)


# --- images ---


def save(path: Path, value: int, mode: str = "RGB") -> None:
    Image.new(mode, (8, 6), value if mode == "L" else (value,) * len(mode)).save(path)


def test_folder_of_images_in_the_order_of_names(tmp_path: Path) -> None:
    save(tmp_path / "b.png", 20, "RGBA")
    save(tmp_path / "a.bmp", 10, "L")
    save(tmp_path / "c.JPG", 30)
    (tmp_path / "notes.txt").write_text("no image")
    source = open_source(str(tmp_path))
    frames = list(source)
    assert (source.live, source.fps) == (False, None)
    assert [(frame.name, int(frame.image_HW3[0, 0, 0])) for frame in frames] == [
        ("a.bmp", 10),
        ("b.png", 20),
        ("c.JPG", 30),
    ]
    assert all(frame.image_HW3.shape == (6, 8, 3) for frame in frames)


def test_numbers_in_names_go_by_their_value(tmp_path: Path) -> None:
    names = ["frame1.png", "frame2.png", "frame10.png", "frame0010.png", "frame11.jpg", "left.png"]
    for name in names:
        save(tmp_path / name, 10)
    ordered = [frame.name for frame in open_source(str(tmp_path))]
    assert ordered == ["frame1.png", "frame2.png", "frame0010.png", "frame10.png", "frame11.jpg", "left.png"]


def test_single_image_looped(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 10)
    source = open_source(str(tmp_path / "a.png"), Wanted(loop=True))
    assert [next(source).name for _ in range(3)] == ["a.png"] * 3


def test_corrupt_image_is_named_after_the_good_ones(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 10)
    noise_HW3 = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise_HW3).save(tmp_path / "b.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:5000])
    source = open_source(str(tmp_path))
    assert next(source).name == "a.png"
    with pytest.raises(InputError, match=r"image .*b\.png can't be read"):
        next(source)


def test_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no images in .*\.jpg, \.jpeg, \.png"):
        open_source(str(tmp_path))


def test_images_below_a_folder_are_said_not_to_be_read(tmp_path: Path) -> None:
    for name in ("a", "b", ".hidden", "none"):
        (tmp_path / name).mkdir()
    for name in ("a", "b", ".hidden"):
        save(tmp_path / name / "0.png", 10)
    with pytest.raises(InputError, match="itself, but in folders below it; name one, such as .*/a$"):
        open_source(str(tmp_path))
    assert open_source(str(tmp_path / "a")).note is None
    save(tmp_path / "a.png", 10)
    note = f"images in {tmp_path / 'a'} and 1 more of its folders are not read: those of {tmp_path} itself are"
    assert open_source(str(tmp_path)).note == note


def test_images_have_no_rate(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 10)
    with pytest.raises(InputError, match="leave --realtime out"):
        open_source(str(tmp_path), Wanted(realtime=True))


# --- synthetic street ---


def test_street_with_its_labels() -> None:
    frames = list(open_source(STREET + "&frames=3"))
    assert [frame.name for frame in frames] == ["000000", "000001", "000002"]
    assert frames[0].image_HW3.shape == (64, 96, 3) and frames[0].image_HW3.dtype == np.uint8
    assert frames[0].label_HW is not None and frames[0].label_HW.shape == (64, 96)
    assert (frames[0].image_HW3 != frames[2].image_HW3).any()


def test_street_rendered_ahead_is_the_same_street(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = open_source(STREET + "&frames=4&ahead=9")
    monkeypatch.setattr("edgeprune.street.street.Street.frame", None)  # no rendering from here on
    first = [next(ahead) for _ in range(4)]
    assert list(ahead) == []
    monkeypatch.undo()
    for before, after in zip(first, open_source(STREET + "&frames=4"), strict=True):
        np.testing.assert_array_equal(before.image_HW3, after.image_HW3)
        assert before.label_HW is not None and after.label_HW is not None
        np.testing.assert_array_equal(before.label_HW, after.label_HW)


def test_endless_street_goes_there_and_back_over_what_was_rendered() -> None:
    source = open_source(STREET + "&ahead=3")
    assert [next(source).name for _ in range(7)] == [
        "000000",
        "000001",
        "000002",
        "000001",
        "000000",
        "000001",
        "000002",
    ]
    assert [there_and_back(index, 1) for index in range(3)] == [0, 0, 0]


def test_the_camera_of_a_street_may_stand_or_be_slower() -> None:
    """Of one that stands, few labels change; of one at half the speed fewer than at the street's own."""
    changed = {}
    for speed in (0, 50, 100):
        labels = [frame.label_HW for frame in open_source(f"{STREET}&frames=10&speed={speed}")]
        assert labels[0] is not None and labels[9] is not None
        changed[speed] = (labels[0] != labels[9]).mean()
    assert 0 < changed[0] < 0.05 < changed[50] < changed[100]
    for ours, same in zip(open_source(STREET + "&frames=2"), open_source(STREET + "&frames=2&speed=100"), strict=True):
        np.testing.assert_array_equal(ours.image_HW3, same.image_HW3)


def test_street_in_realtime_is_live() -> None:
    source = open_source(STREET + "&fps=30", Wanted(realtime=True))
    assert (source.live, source.fps) == (True, 30)


@pytest.mark.parametrize("name", ["empty.mp4", "/proc/kmsg"])
def test_a_file_of_no_bytes_is_not_waited_for(name: str, tmp_path: Path) -> None:
    """Among them those of /proc, which say that they are empty and block who reads them."""
    (tmp_path / "empty.mp4").touch()
    if not (tmp_path / name).exists():
        pytest.skip(f"no {name} here")
    with pytest.raises(InputError, match="is an empty file; copy or record it again"):
        open_source(str(tmp_path / name))


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("synthetic://street?sede=1", "unknown option of .* 'sede'; choices: seed, .*did you mean 'seed'"),
        ("synthetic://street?height=tall", "height='tall' .* a whole number from 16 to 4096 is expected"),
        ("synthetic://street?fps=0", "fps='0' .* a whole number from 1 to 1000"),
        ("synthetic://street?height=1000000", "from 16 to 4096"),
        ("synthetic://street?seed=" + "9" * 5000, "a whole number from 0 to 4294967295"),
        ("synthetic://street?ahead=100000", "ahead=100000 .*: 78.6 GB of frames, at most 2.1 GB are held"),
        ("synthetic://[", r"'synthetic://\[' is no URI; check its brackets"),
        ("synthetic://me:secret@street", r"synthetic://\*\*\*@street: a name or a number alone is expected"),
        ("synthetic://steet", "unknown synthetic scene 'steet'; choices: street; did you mean 'street'"),
    ],
)
def test_bad_street(uri: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_source(uri)
