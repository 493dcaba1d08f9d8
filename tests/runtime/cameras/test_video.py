import gc
import re
import struct
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.runtime.cameras import StreamTruncated, Wanted, open_source
from tests.runtime.cameras.conftest import read_until_error

CLIP = Path(__file__).parents[4] / "shared/data/streams/car-detection.mp4"


def test_every_frame_in_order(make_video: Callable[..., Path]) -> None:
    source = open_source(str(make_video(frames=30)))
    frames = list(source)
    assert (source.live, source.fps) == (False, 25.0)
    assert [frame.index for frame in frames] == list(range(30))
    assert frames[0].image_HW3.shape == (64, 96, 3) and frames[0].image_HW3.dtype == np.uint8
    assert all(before.capture_ns < after.capture_ns for before, after in pairwise(frames))


def test_colours_are_rgb(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "red.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv444p"
        red = np.zeros((32, 32, 3), np.uint8)
        red[..., 0] = 255
        container.mux(stream.encode(av.VideoFrame.from_ndarray(red, format="rgb24")))
        container.mux(stream.encode(None))
    frame = next(open_source(str(tmp_path / "red.mkv")))
    assert frame.image_HW3[16, 16, 0] > 240 and frame.image_HW3[16, 16, 1:].max() < 15


def test_portrait_video_of_a_phone_is_turned_upright(make_video: Callable[..., Path]) -> None:
    path = make_video()
    stored = next(open_source(str(path))).image_HW3
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # version 0: 4 bytes of flags and 36 of times, ids, volume come before it
    one = 1 << 16
    assert struct.unpack(">9i", data[matrix : matrix + 36]) == (one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    data[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)  # a quarter turn clockwise
    path.write_bytes(data)
    np.testing.assert_array_equal(next(open_source(str(path))).image_HW3, np.rot90(stored, -1))


@pytest.mark.parametrize(
    ("name", "movflags", "codec"),
    [
        ("a.mp4", "faststart", "mpeg4"),
        ("a.mp4", "faststart", "libvpx-vp9"),
        ("a.mp4", "frag_keyframe+empty_moov", "mpeg4"),
        ("a.mkv", "", "mpeg4"),
    ],
)
def test_cut_off_mid_frame_gives_what_came_before_and_then_says_so(
    make_video: Callable[..., Path], name: str, movflags: str, codec: str
) -> None:
    path = make_video(name, frames=60, movflags=movflags, codec=codec)
    whole = [frame.image_HW3 for frame in open_source(str(path))]
    assert len(whole) == 60
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.5)])
    source = open_source(str(path))
    frames = []
    with pytest.raises(StreamTruncated, match=rf"{name} is cut off or damaged: \d+ frames could be decoded") as error:
        for frame in source:
            frames.append(frame.image_HW3)
    assert f" {len(frames)} frames" in str(error.value)
    assert 15 <= len(frames) < 50
    for before, after in zip(whole, frames, strict=False):
        np.testing.assert_array_equal(before, after)
    assert list(source) == []  # raised once, then at its end


def test_cut_off_between_two_frames(make_video: Callable[..., Path]) -> None:
    av = pytest.importorskip("av")
    path = make_video(frames=30)
    with av.open(str(path)) as container:
        ends = [packet.pos + packet.size for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: ends[19]])
    count, error = read_until_error(open_source(str(path)))
    assert (count, type(error)) == (20, StreamTruncated)


def test_damage_in_the_middle_is_left_out_and_told_at_the_end(make_video: Callable[..., Path]) -> None:
    path = make_video(frames=60)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 300] = bytes(300)
    path.write_bytes(data)
    count, error = read_until_error(open_source(str(path)))
    assert isinstance(error, StreamTruncated) and error.exit_code == 3
    assert 50 <= count < 60


def test_cut_off_before_its_index(make_video: Callable[..., Path]) -> None:
    path = make_video(movflags="use_metadata_tags")  # the index comes last
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"cannot read .*stripes.mp4 as a video .*cut off before its index"):
        open_source(str(path))


def test_text_is_no_video(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "notes.mp4").write_text("not a video")
    with pytest.raises(InputError, match=r"notes.mp4"):
        open_source(str(tmp_path / "notes.mp4"))


def test_loop_starts_again_and_counts_on(make_video: Callable[..., Path]) -> None:
    source = open_source(str(make_video(frames=3)), Wanted(loop=True))
    frames = [next(source) for _ in range(8)]
    assert [frame.index for frame in frames] == list(range(8))
    np.testing.assert_array_equal(frames[0].image_HW3, frames[6].image_HW3)
    source.close()
    assert list(source) == []


def test_memory_is_flat_over_a_loop(make_video: Callable[..., Path]) -> None:
    def resident_kb() -> int:
        found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
        assert found
        return int(found.group(1))

    source = open_source(str(make_video(frames=20)), Wanted(loop=True))
    for _ in range(400):
        next(source)
    before_kb = resident_kb()
    for _ in range(2000):
        next(source)
    assert resident_kb() - before_kb < 4000  # 2000 frames of 18 kB would be 36000


def test_realtime_is_live_and_keeps_the_rate(make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("edgeprune.runtime.cameras.source.time.monotonic", lambda: 100.0 + sum(slept))
    monkeypatch.setattr("edgeprune.runtime.cameras.source.time.sleep", slept.append)
    source = open_source(str(make_video(frames=4)), Wanted(realtime=True))
    assert source.live
    assert len(list(source)) == 4
    assert slept == pytest.approx([0, 0.04, 0.04, 0.04])


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "street.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"pip install 'edgeprune\[video\]'"):
        open_source(str(tmp_path / "street.mp4"))


@pytest.mark.skipif(not CLIP.exists(), reason="needs ../shared/data/streams/car-detection.mp4")
def test_road_clip_cut_off(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "cut.mp4").write_bytes(CLIP.read_bytes()[:300_000])
    count, error = read_until_error(open_source(str(tmp_path / "cut.mp4")))
    assert isinstance(error, StreamTruncated) and count > 10


def test_decoded_frames_go_when_they_are_done_with(make_video: Callable[..., Path]) -> None:
    """Without waiting for the cycle collector, which comes by hundreds of frames later."""
    source = open_source(str(make_video(frames=30)))
    gc.collect()
    gc.disable()
    try:
        most = 0
        for _ in source:
            most = max(most, sum(type(each).__name__ == "VideoFrame" for each in gc.get_objects()))
    finally:
        gc.enable()
    assert most <= 4  # what the decoder gave at once, and the one in hand
